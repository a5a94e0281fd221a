/** Commands that nobody follows, in a real guest: their output is memory of the guest, and goes where that goes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { beforeAll, expect, test } from 'vitest';
import type { ExecStream } from '../packages/sdk/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { cli } from './setup/perch-instance.ts';
import { newSandbox, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { env } = shared;
const { commands } = perch.sandboxes;
const small = { memory_mb: 256, disk_mb: 1024, timeout_sec: 1800 };

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch, small);
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

/** Starts a script and leaves it. */
async function leave(script: string): Promise<number> {
  const start = { cmd: 'sh', args: ['-c', script], detach: true };
  await using stream = await perch.sandboxes.execStream(id, start);
  return stream.pid;
}

async function read(stream: ExecStream): Promise<[string, number]> {
  let said = '';
  for await (const event of stream) if (event.type === 'stdout') said += event.text ?? '';
  return [said, await stream.exit];
}

async function command(...args: string[]): Promise<[string, number | null]> {
  const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return [out, code as number | null];
}

test('kept output and ends survive a pause, and a fork has them, too', async () => {
  const over = await leave('echo done; exit 3');
  await eventually(async () => (await commands.get(id, over)).status === 'ended', 30_000);
  const running = await leave('echo before; until [ -e /tmp/go ]; do sleep 0.1; done; echo after; exit 4');
  await eventually(async () => (await commands.get(id, running)).stdout === 'before\n', 30_000);
  await perch.sandboxes.pause(id);
  await perch.sandboxes.resume(id);
  const { results } = await perch.sandboxes.fork(id);
  const [child] = results;
  if (!child || 'error' in child) throw new Error('there is no child');
  for (const one of [id, child.sandbox.id]) {
    expect(await commands.get(one, over)).toMatchObject({ exit_code: 3, stdout: 'done\n' });
    await perch.sandboxes.exec(one, { cmd: 'touch', args: ['/tmp/go'] });
    expect(await read(await commands.attach(one, running))).toEqual(['before\nafter\n', 4]);
  }
  await perch.sandboxes.delete(child.sandbox.id);
});

test('perch ps, attach and kill', async () => {
  const [pid] = await command('exec', '-d', id, '--', 'sh', '-c', 'echo here; sleep 1000');
  const number = pid.trim();
  expect((await command('ps', id))[0]).toMatch(new RegExp(`^${number} +running .* sh -c echo here`, 'm'));
  expect((await command('kill', id, number))[1]).toBe(0);
  expect(await command('attach', id, number)).toEqual(['here\n', 137]);
  expect((await command('ps', '--all', id))[0]).toMatch(new RegExp(`^${number} +ended \\(137\\)`, 'm'));
});
