import { execFile } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sandbox } from '../packages/sdk/src/index.ts';
import { daemonPid, footprint, footprintOf, monitorOf, run, slotNamespaces } from './setup/machine.ts';
import { cli, PerchInstance } from './setup/perch-instance.ts';
import { sh } from './setup/sandbox.ts';

const small = { memory_mb: 128, disk_mb: 1024, timeout_sec: 1800 };
const networks = ['10.79.0.0/16', '10.80.0.0/16'] as const;

let one: PerchInstance;
let other: PerchInstance;

beforeAll(async () => {
  one = await PerchInstance.start({ network: 79 });
  other = await PerchInstance.prepare({ network: 80 });
});

afterAll(async () => {
  await using stack = new AsyncDisposableStack();
  for (const instance of [one, other]) if (instance) stack.use(instance);
});

/** Starts `perch up`, which must refuse. @returns what it says and does about it */
async function refusal(env: Record<string, string>): Promise<{ message: string; remedy: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  execFile(process.execPath, [cli, 'up', '--json'], { env, timeout: 60_000 }, (error, _stdout, stderr) => {
    if (error?.code === 1) resolve(stderr);
    else reject(error ?? new Error('perch up was not refused'));
  });
  const { error } = JSON.parse(await promise) as { error: { message: string; remedy: string } };
  return error;
}

describe('a start is refused, with the line that helps,', () => {
  test('on a data directory that is in use', async () => {
    const listen = one.env.PERCH_LISTEN ?? '';
    for (const address of [listen, listen.replace('127.0.0.1', '127.0.0.2')]) {
      const { message, remedy } = await refusal({ ...one.env, PERCH_LISTEN: address });
      expect(message).toBe(`Perch runs on ${one.dataDir} already.`);
      expect(remedy).toContain('perch down --keep');
      expect(remedy).toContain('PERCH_DATA_DIR');
    }
  });

  test('on an address that something listens on', async () => {
    const { message, remedy } = await refusal({ ...other.env, PERCH_LISTEN: one.env.PERCH_LISTEN ?? '' });
    expect(message).toBe(`The address ${one.env.PERCH_LISTEN} is in use.`);
    expect(remedy).toContain('PERCH_LISTEN=');
  });

  test('on a range of addresses that another Perch has, with one that is free', async () => {
    const said = await refusal({ ...other.env, PERCH_NETWORK: networks[0] });
    const text = `${said.message} ${said.remedy}`;
    expect(text).toContain(
      `PERCH_NETWORK is ${networks[0]}, which overlaps the Perch instance ${one.instance}`,
    );
    const [, free] = /for example PERCH_NETWORK=(\S+?)\.?(?:\s|$)/.exec(text) ?? [];
    expect(free).toMatch(/^\d+\.\d+\.0\.0\/16$/);
    expect(networks[0]).not.toBe(free);
    expect(await other.leaks()).toEqual([]);
    expect(await one.perch.health()).toMatchObject({ status: 'ok' });
  });
});

describe('of two on one machine', () => {
  let ofOne: Sandbox;
  let ofOther: Sandbox;

  beforeAll(async () => {
    await other.up();
    [ofOne, ofOther] = await Promise.all([
      one.perch.sandboxes.create(small),
      other.perch.sandboxes.create(small),
    ]);
  });

  /** The table, without how often its rules were met. */
  async function rulesOf({ instance }: PerchInstance): Promise<string> {
    return (await run('nft', ['--stateless', 'list', 'table', 'inet', `perch-${instance}`])).stdout;
  }

  test('each lists and counts its own alone', async () => {
    for (const [instance, sandbox] of [
      [one, ofOne],
      [other, ofOther],
    ] as const) {
      expect((await instance.perch.sandboxes.list()).items.map(({ id }) => id)).toEqual([sandbox.id]);
      await expect.poll(() => footprint(instance)).toEqual(footprintOf(sandbox.id));
    }
    const [names, others] = [await one.leaks(), await other.leaks()].map((leaks) =>
      leaks.map(({ kind, name }) => `${kind} ${name}`),
    );
    expect(names?.filter((name) => others?.includes(name))).toEqual([]);
    expect(names?.join('\n')).not.toMatch(new RegExp(`${other.instance}|${other.dataDir}`));
    expect(others?.join('\n')).not.toMatch(new RegExp(`${one.instance}|${one.dataDir}`));
  });

  test('the end of one, its next start and its removal leave the other as it was', async () => {
    const before = {
      rules: await rulesOf(other),
      monitor: monitorOf(other.dataDir, ofOther.id),
      slots: slotNamespaces(other.instance).sort(),
      host: daemonPid(other.dataDir, 'perch-host'),
      control: daemonPid(other.dataDir, 'perchd'),
    };
    const launcher = one.killLauncher();
    for (const name of ['perch-host', 'perchd'] as const) {
      const pid = daemonPid(one.dataDir, name);
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    }
    await launcher;
    await expect.poll(() => daemonPid(one.dataDir, 'perchd')).toBeUndefined();
    await one.up();
    await expect
      .poll(() => sh(one.perch, ofOne.id, 'echo here').catch(() => {}), { timeout: 30_000 })
      .toBe('here\n');
    await one.down();
    expect(await one.leaks()).toEqual([]);
    expect({
      rules: await rulesOf(other),
      monitor: monitorOf(other.dataDir, ofOther.id),
      slots: slotNamespaces(other.instance).sort(),
      host: daemonPid(other.dataDir, 'perch-host'),
      control: daemonPid(other.dataDir, 'perchd'),
    }).toEqual(before);
    expect(await sh(other.perch, ofOther.id, 'echo here')).toBe('here\n');
  });
});
