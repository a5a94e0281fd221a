/** Each process of Perch is killed while a sandbox runs; the same sandbox answers afterwards. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readStat } from '../packages/node-kit/src/index.ts';
import type { Perch, Sandbox } from '../packages/sdk/src/index.ts';
import { eventually } from './setup/eventually.ts';
import {
  daemonPid,
  footprint,
  footprintOf,
  hostSandboxes,
  monitorOf,
  postmasterPid,
  vmDirectories,
} from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';

let instance: PerchInstance;
let perch: Perch;
let sandbox: Sandbox;
let proof: string;

/** Of this boot, of a process that has been there since, and of a file. */
const whoIsThere = 'cat /proc/sys/kernel/random/boot_id; pgrep -x sleep; cat /home/user/kept';
const small = { memory_mb: 128, disk_mb: 1024, timeout_sec: 1800 };

beforeAll(async () => {
  instance = await PerchInstance.start({ network: 78 });
  ({ perch } = instance);
  sandbox = await perch.sandboxes.create(small);
  await sh(
    perch,
    sandbox.id,
    'echo kept > /home/user/kept; setsid sleep 100000 >/dev/null 2>&1 </dev/null &',
  );
  proof = await eventually(async () => {
    const seen = await sh(perch, sandbox.id, whoIsThere).catch(() => '');
    return seen.split('\n').length === 4 && seen;
  });
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

function kill(pid: number | undefined): number {
  if (pid === undefined) throw new Error('the process to kill does not run');
  process.kill(pid, 'SIGKILL');
  return pid;
}

/** The sandbox of before is as it was. Calls may fail until all has started again, and none may hang. */
async function expectSameSandbox(): Promise<void> {
  await eventually(async () => {
    const seen = await sh(perch, sandbox.id, whoIsThere, 20).catch(() => undefined);
    if (seen !== undefined) expect(seen).toBe(proof);
    return seen !== undefined;
  }, 60_000);
  // Commands need no database, and run before it answers again.
  await expect
    .poll(() => perch.sandboxes.get(sandbox.id).catch(() => {}), { timeout: 30_000 })
    .toMatchObject({ status: 'running', host_ip: sandbox.host_ip });
}

async function expectNewOnesWork(): Promise<void> {
  await expect
    .poll(() => perch.health().catch(() => {}), { timeout: 60_000 })
    .toMatchObject({ status: 'ok' });
  await using made = await newSandbox(perch, small);
  expect(await sh(perch, made.id, 'echo works')).toBe('works\n');
}

/** The things on the machine are those that are listed, in every kind of resource, and what the journal has. */
async function expectNothingElse(...ids: string[]): Promise<void> {
  await expect.poll(() => footprint(instance), { timeout: 60_000 }).toEqual(footprintOf(...ids));
  await expect.poll(() => listed()).toEqual(ids.toSorted());
  expect((await hostSandboxes(instance.dataDir)).map(({ id }) => id).sort()).toEqual(ids.toSorted());
  const kinds = new Map<string, number>();
  for (const { kind } of await instance.leaks()) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const slots = footprintOf(...ids).slots;
  expect(Object.fromEntries(kinds)).toMatchObject({ namespace: slots, link: slots, 'nft table': 1 });
  expect(kinds.get('directory') ?? 0).toBe(ids.length);
}

async function listed(): Promise<string[]> {
  return (await perch.sandboxes.list()).items.map(({ id }) => id).sort();
}

/** The sandbox that is being made, once its VM is there. */
function beingMade(known: string[]): Promise<string> {
  return eventually(() => vmDirectories(instance.dataDir).find((id) => !known.includes(id)));
}

describe('after kill -9 of', () => {
  test.each(['perch-host', 'perchd'] as const)(
    '%s the same sandboxes answer, and new ones can be made',
    async (name) => {
      const old = kill(daemonPid(instance.dataDir, name));
      await eventually(() => {
        const now = daemonPid(instance.dataDir, name);
        return now !== undefined && now !== old;
      }, 60_000);
      await expectSameSandbox();
      await expectNewOnesWork();
      await expectNothingElse(sandbox.id);
    },
  );

  test('PostgreSQL the same sandboxes answer, and new ones can be made', async () => {
    const old = kill(postmasterPid(instance.dataDir));
    await eventually(() => {
      const now = postmasterPid(instance.dataDir);
      return now !== undefined && now !== old;
    }, 60_000);
    await expectSameSandbox();
    await expectNewOnesWork();
    await expectNothingElse(sandbox.id);
  });

  test('`perch up` the daemons end, sandboxes live on, and the next one adopts them', async () => {
    const monitor = monitorOf(instance.dataDir, sandbox.id);
    await instance.killLauncher();
    await expect
      .poll(
        () => [
          daemonPid(instance.dataDir, 'perch-host'),
          daemonPid(instance.dataDir, 'perchd'),
          postmasterPid(instance.dataDir),
        ],
        { timeout: 30_000 },
      )
      .toEqual([undefined, undefined, undefined]);
    expect(monitorOf(instance.dataDir, sandbox.id)).toBe(monitor);
    await instance.up();
    await expectSameSandbox();
    await expectNothingElse(sandbox.id);
  });
});

test('the next `perch up` waits for daemons that still end requests, when the one before was killed', async () => {
  const busy = perch.sandboxes.exec(sandbox.id, { cmd: 'sleep', args: ['60'], timeout_sec: 70 });
  busy.catch(() => {});
  await eventually(async () => (await sh(perch, sandbox.id, 'pgrep -xf "sleep 60" || true')) !== '');
  const control = daemonPid(instance.dataDir, 'perchd');
  await instance.killLauncher();
  expect(daemonPid(instance.dataDir, 'perchd')).toBe(control);
  await instance.up();
  await expect(busy).rejects.toMatchObject({ code: 'shutting_down' });
  // The command runs on.
  expect(await sh(perch, sandbox.id, 'pkill -xf "sleep 60" && echo ended')).toBe('ended\n');
  await expectSameSandbox();
  await expectNothingElse(sandbox.id);
});

test('after Ctrl-C the next `perch up` adopts what runs', async () => {
  const monitor = monitorOf(instance.dataDir, sandbox.id);
  await instance.stop();
  expect(daemonPid(instance.dataDir, 'perch-host')).toBeUndefined();
  expect(daemonPid(instance.dataDir, 'perchd')).toBeUndefined();
  expect(monitorOf(instance.dataDir, sandbox.id)).toBe(monitor);
  await instance.up();
  await expectSameSandbox();
  await expectNothingElse(sandbox.id);
});

describe('a create that is under way', () => {
  test('leaves nothing when perch-host is killed', async () => {
    const creating = perch.sandboxes.create(small).catch((error: unknown) => error);
    const id = await beingMade([sandbox.id]);
    kill(daemonPid(instance.dataDir, 'perch-host'));
    expect(await creating).toMatchObject({ code: expect.stringMatching(/host_unavailable|sandbox_/) });
    await expectNothingElse(sandbox.id);
    expect(await perch.sandboxes.get(id)).toMatchObject({ status: 'destroyed' });
    await expectSameSandbox();
  });

  test('leaves nothing when perchd is killed and nobody can ask for it again', async () => {
    const creating = fetch(`${instance.url}/v1/sandboxes`, {
      method: 'POST',
      headers: { 'x-api-key': instance.key, 'content-type': 'application/json' },
      body: JSON.stringify(small),
    }).catch((error: unknown) => error);
    await beingMade([sandbox.id]);
    kill(daemonPid(instance.dataDir, 'perchd'));
    expect(await creating).toBeInstanceOf(Error);
    await eventually(
      () =>
        perch.health().then(
          ({ status }) => status === 'ok',
          () => false,
        ),
      60_000,
    );
    await expectNothingElse(sandbox.id);
    await expectSameSandbox();
  });

  test('gives one sandbox when perchd is killed and the same request comes again', async () => {
    const idempotencyKey = crypto.randomUUID();
    const first = perch.sandboxes.create(small, { idempotencyKey }).catch((error: unknown) => error);
    await beingMade([sandbox.id]);
    kill(daemonPid(instance.dataDir, 'perchd'));
    await first;
    const made = await eventually(
      () => perch.sandboxes.create(small, { idempotencyKey }).catch(() => undefined),
      90_000,
    );
    expect(made.status).toBe('running');
    expect(await sh(perch, made.id, 'echo works')).toBe('works\n');
    await expectNothingElse(sandbox.id, made.id);
    await perch.sandboxes.delete(made.id);
    await expectNothingElse(sandbox.id);
  });
});

test('a VM that ended with everything else is failed with its reason at the next start', async () => {
  const monitor = monitorOf(instance.dataDir, sandbox.id);
  const daemons = (['perch-host', 'perchd'] as const).map((name) => daemonPid(instance.dataDir, name));
  const postmaster = postmasterPid(instance.dataDir);
  const launcher = instance.killLauncher();
  for (const pid of [...daemons, postmaster, monitor]) if (pid !== undefined && readStat(pid)) kill(pid);
  await launcher;
  await expect.poll(() => postmasterPid(instance.dataDir), { timeout: 30_000 }).toBeUndefined();
  await instance.up();
  await expect
    .poll(() => perch.sandboxes.get(sandbox.id), { timeout: 30_000 })
    .toMatchObject({ status: 'failed', reason: expect.stringMatching(/gone/) });
  await expect(perch.sandboxes.exec(sandbox.id, { cmd: 'true' })).rejects.toMatchObject({
    code: 'sandbox_failed',
  });
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf());
  await expectNewOnesWork();
  await perch.sandboxes.delete(sandbox.id);
  await expectNothingElse();
});
