/** One guest that is started only to see whether it starts. */
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Accelerator } from '@perch/protocol';
import type { Logger } from 'pino';
import { endProcess } from '../../linux/index.ts';
import { kernelArguments } from '../kernel-arguments.ts';
import { findProcess } from '../process/index.ts';
import { launch } from './launch.ts';
import { QemuVm } from './vm.ts';
import { prepareDirectory } from './vm-directory.ts';

export interface TrialSpec {
  kernel: string;
  initramfs: string;
  /** The trial's directory is made beside this path. */
  near: string;
  log: Logger;
}

/** nobody: the trial has no disk and no network, and its kernel and initramfs are our own. */
const uid = 65534;
const memoryMb = 128;
/** A guest under KVM, even under nested KVM, is in userspace after 5 s at most. */
const timeoutMs = 10_000;
/** The kernel's line before it starts the first program (init/main.c). */
const userspace = 'as init process';

/**
 * @returns undefined when the guest reached its userspace, else what happened instead
 * @throws when no guest could be started
 */
export async function kvmRunsGuest(spec: TrialSpec): Promise<string | undefined> {
  return runTrial(spec, { accelerator: 'kvm', timeoutMs });
}

/** @internal for tests, which can run a guest under TCG everywhere */
export async function runTrial(
  spec: TrialSpec,
  {
    accelerator,
    tscKhz,
    timeoutMs,
  }: { accelerator: Accelerator; tscKhz?: number | undefined; timeoutMs: number },
): Promise<string | undefined> {
  await sweepTrials(spec.near);
  const dir = await mkdtemp(`${spec.near}-trial-`);
  try {
    await chown(dir, uid, uid);
    const log = await prepareDirectory(dir, { ...spec, memoryMb });
    const machine = {
      ...{ name: 'perch-trial', accelerator, vcpus: 1, memoryMb },
      kernelArguments: kernelArguments({ accelerator, tscKhz, verbose: true }),
    };
    const launched = await launch({ dir, uid, log: log.fd, machine, maxFileBytes: 2 ** 20 }).finally(() =>
      log.close(),
    );
    // No limits: a trial is over before it could use much.
    const vm = new QemuVm({ ...launched, dir, uid, log: spec.log });
    return await vm.whileAlive(watch(vm, timeoutMs)).finally(() => vm.kill());
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The rest of a trial that crashed in the middle, whose guest would run on. */
async function sweepTrials(near: string): Promise<void> {
  const prefix = `${basename(near)}-trial-`;
  for (const name of await readdir(dirname(near))) {
    if (!name.startsWith(prefix)) continue;
    const dir = join(dirname(near), name);
    const left = findProcess(uid, undefined, dir);
    if (left) await endProcess(left);
    await rm(dir, { recursive: true, force: true });
  }
}

async function watch(vm: QemuVm, timeoutMs: number): Promise<string | undefined> {
  const signal = AbortSignal.timeout(timeoutMs);
  const qmp = await vm.connect(signal);
  await qmp.execute('cont');
  while (!signal.aborted) {
    if ((await vm.console()).includes(userspace)) return undefined;
    await sleep(50);
  }
  const said = (await vm.console()).length;
  return `a guest did not reach its userspace within ${timeoutMs / 1000} s (${said} bytes on its console)`;
}
