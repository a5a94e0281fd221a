import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import type { UpEvent } from '../apps/cli/src/launcher/index.ts';
import { dataPaths } from '../packages/protocol/src/index.ts';
import { Perch } from '../packages/sdk/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { cli, PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';

/** Starts `perch up`, does the work once it is ready, and ends it as Ctrl-C does. @returns what it reported */
async function whileUp(
  env: Record<string, string>,
  work: () => Promise<void>,
  { umask = '022', cwd }: { umask?: string; cwd?: string } = {},
): Promise<UpEvent[]> {
  const line = `umask ${umask}; exec "$0" "$@"`;
  const child = spawn('sh', ['-c', line, process.execPath, cli, 'up', '--json'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    ...(cwd === undefined ? {} : { cwd }),
  });
  const ended = once(child, 'exit');
  const events: UpEvent[] = [];
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
  createInterface(child.stdout).on('line', (line) => {
    const event = JSON.parse(line) as UpEvent;
    events.push(event);
    if (event.event === 'ready') resolve();
  });
  child.once('exit', (code) => reject(new Error(`perch up ended with ${code}`)));
  try {
    await ready;
    await work();
  } finally {
    child.kill('SIGINT');
    await ended;
  }
  return events;
}

test('`perch down` takes everything, also of a Perch that just stops by itself', async () => {
  await using instance = await PerchInstance.start({ network: 92 });
  const { perch } = instance;
  for (const early of [true, false]) {
    const { id } = await perch.sandboxes.create({ memory_mb: 128, disk_mb: 1024 });
    // Operations under way keep perchd for a while; without them the host agent goes first.
    const busy = early
      ? perch.sandboxes.exec(id, { cmd: 'sleep', args: ['60'], timeout_sec: 70 })
      : undefined;
    busy?.catch(() => {});
    if (busy) await eventually(async () => (await sh(perch, id, 'pgrep -x sleep || true')) !== '');
    const stopping = instance.stop();
    await instance.down();
    await stopping;
    expect(await instance.leaks()).toEqual([]);
    if (early) await instance.up();
  }
});

test('Ctrl-C in the middle of a start ends it', { timeout: 60_000 }, async () => {
  await using instance = await PerchInstance.prepare({ network: 93, fromNothing: true });
  const child = spawn(process.execPath, [cli, 'up', '--json'], {
    env: instance.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const events: UpEvent[] = [];
  createInterface(child.stdout).on('line', (line) => {
    const event = JSON.parse(line) as UpEvent;
    events.push(event);
    if (event.event === 'step' && event.name === 'perch-host') child.kill('SIGINT');
  });
  expect(await ended).toEqual([0, null]);
  expect(events.map(({ event }) => event)).not.toContain('ready');
  expect(events.at(-1)).toEqual({ event: 'stopped' });
});

test('the first start makes a key, shows it once and keeps it for the user alone', async () => {
  await using instance = await PerchInstance.prepare({ network: 82, fromNothing: true });
  const { PERCH_API_KEY: _, ...env } = instance.env;
  const file = join(instance.dataDir, 'home/perch/config.json');
  const paths = dataPaths(instance.dataDir);
  let kept = '';

  const first = await whileUp({ ...env, PERCH_CONFIG: file }, async () => {
    kept = readFileSync(file, 'utf8');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(join(file, '..')).mode & 0o777).toBe(0o700);
    expect(existsSync(join(paths.control, 'first-key'))).toBe(false);
  });
  const shown = first.filter(({ event }) => event === 'api_key');
  const { url, api_key: apiKey } = JSON.parse(kept) as { url: string; api_key: string };
  expect(shown).toEqual([{ event: 'api_key', key: apiKey, file }]);
  expect(apiKey).toMatch(/^perch_[0-9a-f]{40}$/);
  expect(url).toBe(instance.url);

  const second = await whileUp({ ...env, PERCH_CONFIG: file }, async () => {
    expect((await new Perch({ url, apiKey }).sandboxes.list()).items).toEqual([]);
    const wrong = new Perch({ url, apiKey: apiKey.replace(/.$/, (last) => (last === '0' ? '1' : '0')) });
    await expect(wrong.sandboxes.list()).rejects.toMatchObject({ code: 'unauthorized' });
  });
  expect(second.map(({ event }) => event)).not.toContain('api_key');
  expect(readFileSync(file, 'utf8')).toBe(kept);
  for (const daemon of ['perch-host', 'perchd'] as const) {
    expect(await instance.log(daemon)).not.toContain(apiKey);
  }
});

test('a start under umask 077, in a folder that only root may enter, is as any other', async () => {
  await using place = await mkdtempDisposable(join(tmpdir(), 'perch-strict-'));
  await chmod(place.path, 0o755);
  const dataDir = join(place.path, 'srv/perch');
  await using instance = await PerchInstance.prepare({ network: 84, dataDir });
  await using cwd = await mkdtempDisposable(join(tmpdir(), 'perch-strict-'));
  await whileUp(
    instance.env,
    async () => {
      expect(await (await fetch(`${instance.url}/test`)).text()).toContain('<html ');
      await using sandbox = await newSandbox(instance.perch);
      expect(await sh(instance.perch, sandbox.id, 'umask; node --version')).toMatch(/^0022\nv24\./);
    },
    { umask: '077', cwd: cwd.path },
  );
});
