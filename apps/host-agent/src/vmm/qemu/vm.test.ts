import { spawn } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { readProcess } from '../../linux/index.ts';
import { QemuVm } from './vm.ts';

test('a monitor that ends before it listens is waited for no longer', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-vm-'));
  const child = spawn('sleep', ['3600'], { stdio: 'ignore' });
  const process = readProcess(child.pid ?? 0);
  if (!process) throw new Error('it did not start');
  const vm = new QemuVm({ process, child, dir: dir.path, uid: process.uid, log: pino({ level: 'silent' }) });
  const connecting = vm.connect(new AbortController().signal);
  child.kill('SIGKILL');
  await expect(connecting).rejects.toThrow('The VM monitor is gone');
  await vm.exited;
});
