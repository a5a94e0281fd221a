/** Others that go on from where a sandbox is: each with its memory, processes and disk, none of them with its identity. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Perch, Sandbox } from '../packages/sdk/src/index.ts';
import { expectRightClock, guestClock, hostClock, timed } from './setup/clock.ts';
import { eventually } from './setup/eventually.ts';
import { daemonPid, footprint, footprintOf } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';
import { slowness } from './setup/slowness.ts';

let instance: PerchInstance;
let perch: Perch;
const small = { memory_mb: 256, disk_mb: 1024, timeout_sec: 1800 };

beforeAll(async () => {
  instance = await PerchInstance.start({ network: 86 });
  ({ perch } = instance);
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

async function fork(id: string, count = 1, checkpoint?: number): Promise<Sandbox[]> {
  const request = checkpoint === undefined ? { count } : { count, checkpoint };
  const { results } = await perch.sandboxes.fork(id, request);
  return results.map((result) => {
    if ('error' in result) throw new Error(result.error.message);
    return result.sandbox;
  });
}

/** A process that holds 4 MiB of random bytes, and a file of them: when it is asked, digests of both, and the pid. */
const holder = `
import hashlib, os, time
memory = os.urandom(4 * 2**20)
open('/home/user/kept', 'wb').write(os.urandom(1000000))
while True:
    if not os.path.exists('/home/user/told'):
        kept = hashlib.md5(open('/home/user/kept', 'rb').read()).hexdigest()
        with open('/home/user/told.new', 'w') as told:
            told.write(f"{os.getpid()} {hashlib.md5(memory).hexdigest()} {kept}")
        os.rename('/home/user/told.new', '/home/user/told')
    time.sleep(0.1)
`;

async function holding(): Promise<{ sandbox: Sandbox; told: string }> {
  const sandbox = await perch.sandboxes.create(small);
  await perch.sandboxes.files.write(sandbox.id, '/home/user/holder.py', new TextEncoder().encode(holder));
  await sh(perch, sandbox.id, 'setsid python3 /home/user/holder.py >/dev/null 2>&1 </dev/null &');
  return { sandbox, told: await telling(sandbox.id) };
}

/** The holder's words from now on. */
function telling(id: string): Promise<string> {
  const told = '/home/user/told';
  return sh(perch, id, `rm -f ${told}; until [ -e ${told} ]; do sleep 0.05; done; cat ${told}`);
}

describe('children of a running sandbox', () => {
  let source: Sandbox;
  let told: string;
  let children: Sandbox[];
  let toldWithin: number;

  beforeAll(async () => {
    ({ sandbox: source, told } = await holding());
    await sh(perch, source.id, 'sudo date --set="1 hour ago"');
    [children, toldWithin] = await timed(() => fork(source.id, 3));
  }, 120_000);

  afterAll(async () => {
    for (const { id } of [source, ...children]) await perch.sandboxes.delete(id);
  });

  test('have its processes, memory and disk, and it goes on', async () => {
    for (const { id } of [source, ...children]) expect(await telling(id)).toBe(told);
    const listed = await perch.sandboxes.list();
    expect(listed.items.map(({ status }) => status)).toEqual(['running', 'running', 'running', 'running']);
  });

  test('share no identity and no random numbers with it or with each other', async () => {
    const who =
      'hostname; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | base64';
    const all = await Promise.all([source, ...children].map(({ id }) => sh(perch, id, who)));
    const lines = all.map((text) => text.trim().split('\n'));
    for (const column of [0, 1, 2, 3]) {
      expect(new Set(lines.map((line) => line[column])).size, all.join('---\n')).toBe(4);
    }
    expect(lines.map(([hostname]) => hostname)).toEqual([source, ...children].map(({ id }) => id));
  });

  test('have the time of day, whatever the clock of the source says', async () => {
    expect(hostClock() - (await guestClock(perch, source.id))).toBeGreaterThan(3000);
    for (const { id } of children) await expectRightClock(perch, id, toldWithin);
  });

  test('and the source do not see what another writes', async () => {
    const [first, second] = children.map(({ id }) => id) as [string, string];
    await sh(perch, first, 'echo first > /home/user/mine; rm /home/user/holder.py; sync');
    await sh(perch, source.id, 'echo source > /home/user/mine; sync');
    expect(await sh(perch, first, 'cat /home/user/mine')).toBe('first\n');
    expect(await sh(perch, source.id, 'cat /home/user/mine')).toBe('source\n');
    expect(await sh(perch, second, 'ls /home/user/holder.py /home/user/mine || true')).toBe(
      '/home/user/holder.py\n',
    );
  });

  test('can be forked, paused and resumed like any other, and so can the source', async () => {
    const [, second] = children.map(({ id }) => id) as [string, string];
    const grandchildren = await fork(second, 2);
    for (const id of [source.id, second, ...grandchildren.map((one) => one.id)]) {
      await perch.sandboxes.pause(id);
      await perch.sandboxes.resume(id);
      expect(await telling(id)).toBe(told);
    }
    const again = await fork(source.id);
    expect(await telling(again[0]?.id ?? '')).toBe(told);
    expect(await sh(perch, again[0]?.id ?? '', 'cat /home/user/mine')).toBe('source\n');
    for (const { id } of [...grandchildren, ...again]) await perch.sandboxes.delete(id);
  });

  test('live on when perch-host dies, and when the source is destroyed', async () => {
    process.kill(daemonPid(instance.dataDir, 'perch-host') ?? 0, 'SIGKILL');
    await eventually(async () => (await perch.health().catch(() => undefined))?.status === 'ok', 60_000);
    const [first, ...rest] = children;
    await perch.sandboxes.delete(first?.id ?? '');
    children = rest;
    for (const { id } of children) expect(await telling(id)).toBe(told);
    const { id } = source;
    await perch.sandboxes.delete(id);
    source = rest[0] as Sandbox;
    for (const child of children) expect(await telling(child.id)).toBe(told);
    await expect
      .poll(() => footprint(instance), { timeout: 60_000 * slowness })
      .toEqual(footprintOf(...children.map((child) => child.id)));
  });
});

test('a connection of the source goes on there, and is dead in a child', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  const server = `
import socket
listening = socket.create_server(('0.0.0.0', 9000))
connection, _ = listening.accept()
while True:
    try:
        connection.sendall(connection.recv(100))
    except OSError as error:
        open('/home/user/dead', 'w').write(str(error))
        break
`;
  await perch.sandboxes.files.write(id, '/home/user/server.py', new TextEncoder().encode(server));
  await sh(perch, id, 'setsid python3 /home/user/server.py >/dev/null 2>&1 </dev/null &');
  const socket = await eventually(() => connectTo(sandbox.host_ip ?? '', 9000));
  expect(await said(socket, 'before')).toBe('before');
  const [child] = await fork(id);
  await eventually(() => sh(perch, child?.id ?? '', 'cat /home/user/dead').catch(() => ''));
  expect(await said(socket, 'after')).toBe('after');
  socket.destroy();
  await perch.sandboxes.delete(child?.id ?? '');
});

async function connectTo(host: string, port: number): Promise<Socket | undefined> {
  const socket = connect({ host, port });
  const [event] = await Promise.race([
    once(socket, 'connect').then(() => ['connected']),
    once(socket, 'close').then(() => ['closed']),
  ]).catch(() => ['failed']);
  return event === 'connected' ? socket : undefined;
}

async function said(socket: Socket, word: string): Promise<string> {
  socket.write(word);
  const [data] = (await once(socket, 'data')) as [Buffer];
  return data.toString();
}

test('ten at once all run', async () => {
  await using sandbox = await newSandbox(perch, { ...small, memory_mb: 128 });
  await sh(perch, sandbox.id, 'echo here > /home/user/x');
  const children = await fork(sandbox.id, 10);
  const said = await Promise.all(children.map(({ id }) => sh(perch, id, 'cat /home/user/x; hostname')));
  expect(said).toEqual(children.map(({ id }) => `here\n${id}\n`));
  for (const { id } of children) await perch.sandboxes.delete(id);
});
