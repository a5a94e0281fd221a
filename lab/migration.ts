/** The state of a lab: its devices in a file, beside the file that is its memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '../apps/host-agent/src/vmm/qemu/qmp/index.ts';

const pauseMs = 5;

/** Has a machine that waits (`-incoming defer -S`) go on from what `save` wrote. */
export async function resume(qmp: QmpClient, state: string): Promise<void> {
  await shareMemory(qmp);
  await qmp.execute('migrate-incoming', { uri: `file:${state}` });
  await migrated(qmp);
  await qmp.execute('cont');
}

/** Stops the machine and writes its devices to `state`; the memory is in its file. */
export async function save(qmp: QmpClient, state: string): Promise<void> {
  await qmp.execute('stop');
  await shareMemory(qmp);
  await qmp.execute('migrate', { uri: `file:${state}` });
  await migrated(qmp);
}

/** The memory's file is the memory: the state holds none of it. */
async function shareMemory(qmp: QmpClient): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

async function migrated(qmp: QmpClient): Promise<void> {
  for (;;) {
    const { status } = (await qmp.execute('query-migrate')) as { status?: string };
    if (status === 'completed') return;
    if (status === 'failed') throw new Error('QEMU could not move the state of the lab.');
    await sleep(pauseMs);
  }
}
