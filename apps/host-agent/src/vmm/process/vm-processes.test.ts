import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { isAlive, type ProcessRef, readProcess, signalProcess } from '../../linux/index.ts';
import { createLog } from './directory.ts';
import { VmProcesses } from './vm-processes.ts';

/** Two processes that wait for ever, as those of one VM. */
async function two(onEnd: () => string | undefined = () => undefined) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-vm-'));
  await (await createLog(dir.path)).close();
  const start = (name: string) => {
    const child = spawn('sleep', ['3600'], { stdio: 'ignore' });
    return { name, child, process: refOf(child) };
  };
  const [monitor, pager] = [start('The VM monitor'), start('The pager')];
  const options = { dir: dir.path, onTick: () => {}, onEnd, log: pino({ level: 'silent' }) };
  return {
    ...{ monitor, pager, options },
    vm: new VmProcesses({ ...options, processes: [monitor, pager] }),
    alive: () => [monitor, pager].map(({ process }) => isAlive(process)),
    async [Symbol.asyncDispose]() {
      for (const { child } of [monitor, pager]) child.kill('SIGKILL');
      await dir.remove();
    },
  };
}

function refOf({ pid }: ChildProcess): ProcessRef {
  const found = pid === undefined ? undefined : readProcess(pid);
  if (!found) throw new Error('it did not start');
  return { pid: found.pid, startTime: found.startTime };
}

test.each(['monitor', 'pager'] as const)('the end of the %s is the end of the VM', async (which) => {
  await using it = await two();
  signalProcess(it[which].process, 9);
  expect(await it.vm.exited).toBe(`${it[which].name} was ended by signal 9 (SIGKILL)`);
  expect(it.alive()).toEqual([false, false]);
});

test('what waits for one that ends is told at once', async () => {
  await using it = await two();
  const told = new Promise((resolve) => it.vm.gone.addEventListener('abort', resolve));
  signalProcess(it.monitor.process, 9);
  await told;
  expect(`${it.vm.gone.reason}`).toContain('The VM monitor is gone');
});

test('they are ended in order: the pager only once the monitor is gone', async () => {
  await using it = await two();
  const order: string[] = [];
  it.monitor.child.once('exit', () => order.push('monitor'));
  it.pager.child.once('exit', () => order.push('pager'));
  await it.vm.kill();
  await it.vm.kill();
  expect(order).toEqual(['monitor', 'pager']);
  expect(await it.vm.exited).toBe('The VM monitor was ended by Perch');
});

test('a guest that ended by itself is told before what became of its processes', async () => {
  await using it = await two(() => 'The guest powered off');
  await it.vm.end();
  expect(await it.vm.exited).toBe('The guest powered off');
});

test('one that exits with 0 may say by it how its guest ended', async () => {
  await using it = await two();
  const child = spawn('sh', ['-c', 'exit 0'], { stdio: 'ignore' });
  const monitor = { name: 'The VM monitor', child, process: refOf(child), endsWell: 'The guest restarted' };
  expect(await new VmProcesses({ ...it.options, processes: [monitor] }).exited).toBe('The guest restarted');
});

test('who waits for living processes is told why they ended', async () => {
  await using it = await two();
  const waiting = it.vm.whileAlive(new Promise(() => {}));
  signalProcess(it.pager.process, 15);
  await expect(waiting).rejects.toThrow('The pager was ended by signal 15 (SIGTERM)');
});

test('those that are let go of run on, and can still be ended', async () => {
  await using it = await two();
  it.vm.release();
  expect(it.alive()).toEqual([true, true]);
  const adopted = new VmProcesses({
    ...it.options,
    processes: [it.monitor, it.pager].map(({ name, process }) => ({ name, process })),
  });
  signalProcess(it.monitor.process, 9);
  expect(await adopted.exited).toMatch(/^The VM monitor is gone; its exit status is not known/);
  await it.vm.kill();
  expect(it.alive()).toEqual([false, false]);
});

test('of one that ends with another, and well, nothing is told', async () => {
  await using it = await two();
  // It goes first, as one does whose connection is closed before its peer counts as gone.
  const { monitor } = it;
  const follower = spawn('sh', ['-c', `while kill -0 ${monitor.child.pid}; do sleep 0.01; done`], {
    stdio: 'ignore',
  });
  const process = refOf(follower);
  const vm = new VmProcesses({
    ...it.options,
    processes: [monitor, { name: 'The follower', child: follower, process, follows: true }],
  });
  signalProcess(monitor.process, 9);
  expect(await vm.exited).toBe('The VM monitor was ended by signal 9 (SIGKILL)');
  const ended = spawn('sh', ['-c', 'exit 0'], { stdio: 'ignore' });
  const early = { name: 'The follower', child: ended, process: refOf(ended), follows: true };
  await new Promise((resolve) => ended.once('exit', resolve));
  const leader = spawn('sleep', ['3600'], { stdio: 'ignore' });
  const led = { name: 'The VM', child: leader, process: refOf(leader) };
  const other = new VmProcesses({ ...it.options, processes: [led, early] });
  expect(await other.exited).toBe('The follower exited with code 0');
  expect(isAlive(led.process)).toBe(false);
});
