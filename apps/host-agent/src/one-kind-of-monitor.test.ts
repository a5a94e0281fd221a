import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MonitorChoice } from '@perch/protocol';
import { expect, test } from 'vitest';
import { Journal } from './lifecycle/index.ts';
import { readProcess } from './linux/index.ts';
import {
  keepKind,
  kindOfStates,
  monitorsInUse,
  onlyKind,
  requireMonitorThatFits,
  requireMonitorThatLimits,
} from './one-kind-of-monitor.ts';

const devices = { kind: 'device-mapper', areFiles: false };
const files = { kind: 'qcow2', areFiles: true };

/** A journal with a sandbox whose process is this program, by its name. */
async function sandboxUnder(name: string) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const program = join(dir.path, name);
  await copyFile('/usr/bin/sleep', program);
  const child = spawn(program, ['600'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const process = readProcess(child.pid ?? 0);
  if (!process) throw new Error('it has no process');
  const journal = new Journal(join(dir.path, 'journal.db'));
  const rest = { base: '', kernel: '', initramfs: '', template: 'base', generation: 1 };
  journal.insert({ id: 'sb1', kind: 'sandbox', vcpus: 1, memory_mb: 128, disk_mb: 64, ...rest });
  journal.setProcesses('sb1', [{ pid: process.pid, startTime: process.startTime }]);
  const end = async () => {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  return {
    start: (choice: MonitorChoice | undefined) =>
      requireMonitorThatFits(choice, monitorsInUse(journal), devices),
    end,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) await end();
      journal.close();
      await dir.remove();
    },
  };
}

test.each<[program: string, same: (MonitorChoice | undefined)[], other: MonitorChoice | undefined]>([
  ['qemu-system-x86_64', [undefined, 'qemu-kvm', 'qemu-tcg'], 'firecracker'],
  ['firecracker', [undefined, 'firecracker'], 'qemu-kvm'],
])(
  'sandboxes that run under %s keep a host from starting with another, as long as they do',
  async (...row) => {
    const [program, same, other] = row;
    await using sandbox = await sandboxUnder(program);
    for (const choice of same) expect(() => sandbox.start(choice)).not.toThrow();
    expect(() => sandbox.start(other)).toThrow(
      /^PERCH_VMM is .*, and there are sandboxes that run under (qemu|firecracker): sb1\. Start with PERCH_VMM=/,
    );
    await sandbox.end();
    expect(() => sandbox.start(other)).not.toThrow();
  },
);

test('a monitor that opens devices only is refused where disks are files', () => {
  const none = new Map();
  expect(() => requireMonitorThatFits('firecracker', none, files)).toThrow(
    'Start with PERCH_ROOTFS=device-mapper',
  );
  for (const choice of ['qemu-kvm', undefined] as const) {
    expect(() => requireMonitorThatFits(choice, none, files)).not.toThrow();
  }
  expect(() => requireMonitorThatFits('firecracker', none, devices)).not.toThrow();
});

test('a host whom nobody tells keeps the kind that its sandboxes or its states have', async () => {
  const running = new Map([['firecracker', ['sb1']]] as const);
  expect(onlyKind(running, 'qemu', devices)?.kind).toBe('firecracker');
  expect(onlyKind(new Map(), 'firecracker', devices)?.kind).toBe('firecracker');
  expect(onlyKind(new Map(), 'firecracker', files)?.kind).toBe('qemu');
  expect(onlyKind(new Map(), undefined, devices)).toBeUndefined();

  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const journal = new Journal(join(dir.path, 'journal.db'));
  const dirs = [join(dir.path, 'sandboxes'), join(dir.path, 'snapshots')] as const;
  await mkdir(dirs[1]);
  expect(await kindOfStates(journal, dirs)).toBeUndefined();
  await mkdir(join(dirs[1], 'one'));
  // Those of a host that had no choice.
  expect(await kindOfStates(journal, dirs)).toBe('qemu');
  keepKind(journal, 'firecracker');
  expect(await kindOfStates(journal, dirs)).toBe('firecracker');
  keepKind(journal, 'qemu-tcg');
  expect(await kindOfStates(journal, dirs)).toBe('qemu');
  journal.close();
});

test('a limit that the monitor does not keep is refused', () => {
  const limits = { networkBytes: 1 };
  expect(() => requireMonitorThatLimits('qemu-kvm', limits)).toThrow('Start without them');
  expect(() => requireMonitorThatLimits('firecracker', limits)).not.toThrow();
  expect(() => requireMonitorThatLimits('qemu-tcg', { networkBytes: undefined })).not.toThrow();
});
