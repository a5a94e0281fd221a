/** A sandbox that is paused is only files; resumed, it is the same machine as before. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Failpoint } from '../apps/host-agent/src/failpoints/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { Armed } from './setup/armed.ts';
import { expectRightClock, timed } from './setup/clock.ts';
import { eventually } from './setup/eventually.ts';
import { daemonPid, footprint, footprintOf } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';
import { slowness } from './setup/slowness.ts';

let instance: PerchInstance;
let perch: Perch;
let armed: Armed<Failpoint>;
const small = { memory_mb: 256, disk_mb: 1024, timeout_sec: 1800 };

beforeAll(async () => {
  armed = await Armed.make<Failpoint>();
  const env = { PERCH_FAILPOINTS: armed.file, PERCH_GOOD_RUN_SEC: '0' };
  instance = await PerchInstance.start({ network: 83, env });
  ({ perch } = instance);
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
  await armed?.[Symbol.asyncDispose]();
});

/**
 * A server that keeps random bytes in memory, a file that has no name any more, and a count of seconds; it
 * tells the digests of both, its pid and the count.
 */
const keeper = `
import hashlib, http.server, os, tempfile, threading, time
memory = bytearray(os.urandom(4 * 2**20))
memory[4096:8192] = bytes(4096)
unnamed = tempfile.TemporaryFile()
unnamed.write(os.urandom(2**20)); unnamed.flush()
ticks = 0
def count():
    global ticks
    while True:
        time.sleep(0.2); ticks += 1
threading.Thread(target=count, daemon=True).start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/zero': memory[2**20:2 * 2**20] = bytes(2**20)
        unnamed.seek(0)
        told = [hashlib.md5(memory).hexdigest(), hashlib.md5(unnamed.read()).hexdigest(), os.getpid()]
        body = f"{told} {ticks}".encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', 8000), Handler).serve_forever()
`;

async function startKeeper(id: string): Promise<void> {
  await perch.sandboxes.files.write(id, '/home/user/keeper.py', new TextEncoder().encode(keeper));
  await sh(perch, id, 'setsid python3 /home/user/keeper.py >/dev/null 2>&1 </dev/null &');
  await sh(
    perch,
    id,
    'head -c 1000000 /dev/urandom > /home/user/kept; md5sum /home/user/kept > /home/user/sum',
  );
  await eventually(async () => (await ask(id).catch(() => undefined)) !== undefined, 30_000);
}

/** The content of the keeper, and its count. */
async function ask(id: string, path = ''): Promise<{ holds: string; ticks: number }> {
  // A client that an emulated processor starts soon.
  const line = `exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /${path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
  const answer = await sh(perch, id, line);
  const [, holds = '', ticks = ''] = /^(\[.*\]) (\d+)$/m.exec(answer) ?? [];
  if (holds === '') throw new Error(`the keeper says: ${answer}`);
  return { holds, ticks: Number(ticks) };
}

/** Data on disk and programs are as they were. */
async function expectWhole(id: string, holds: string): Promise<void> {
  expect((await ask(id)).holds).toBe(holds);
  expect(
    await sh(perch, id, 'md5sum --check --quiet /home/user/sum && cat /home/user/lives 2>/dev/null || true'),
  ).toMatch(/^(\d+\n)*$/);
}

const stages = ['freeze', 'device_state', 'memory', 'disk', 'commit', 'teardown', 'total'];

test('memory, disk, processes and open files live on, over as many lives as one likes', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  await startKeeper(id);
  let { holds } = await ask(id);
  const boot = await sh(perch, id, 'cat /proc/sys/kernel/random/boot_id');
  for (let life = 1; life <= 4; life++) {
    await sh(perch, id, `echo ${life} >> /home/user/lives`);
    const before = await ask(id);
    const paused = await perch.sandboxes.pause(id);
    expect(paused).toMatchObject({ id, status: 'paused', host_ip: null });
    expect(Object.keys(paused.timings_ms).sort()).toEqual([...stages].sort());
    expect(footprint(instance)).toMatchObject({ monitors: [], cgroups: [], directories: [] });

    const resumed = await perch.sandboxes.resume(id);
    expect(resumed).toMatchObject({ id, status: 'running' });
    await expectWhole(id, holds);
    expect((await ask(id)).ticks).toBeGreaterThanOrEqual(before.ticks);
    await eventually(async () => (await ask(id)).ticks > before.ticks);
    expect(await sh(perch, id, 'cat /proc/sys/kernel/random/boot_id')).toBe(boot);
    expect((await sh(perch, id, 'cat /home/user/lives')).trim().split('\n').length).toBe(life);
    // A page that a program makes zeros after a snapshot must not come back.
    if (life === 2) ({ holds } = await ask(id, 'zero'));
  }
});

/** Of the kernel that runs, and of a process that was started before. */
const aliveIn = (id: string) =>
  sh(perch, id, 'cat /proc/sys/kernel/random/boot_id; pgrep -x sleep >/dev/null && echo asleep || true');
const sleepIn = (id: string) => sh(perch, id, 'setsid sleep infinity >/dev/null 2>&1 </dev/null &');

test(
  'a sandbox that is paused without memory boots from its disk, as the same sandbox',
  async () => {
    await using sandbox = await newSandbox(perch, {
      ...small,
      env: { COLOUR: 'blue' },
      metadata: { a: 'b' },
    });
    const { id } = sandbox;
    await sleepIn(id);
    const before = await aliveIn(id);
    expect(before).toContain('asleep');
    // Not a byte of it is on the disk when it is paused, but for the pause itself.
    await sh(perch, id, 'head -c 3000000 /dev/urandom > kept; md5sum kept > sum; echo left > /dev/shm/left');

    const paused = await perch.sandboxes.pause(id, { memory: false });
    expect(Object.keys(paused.timings_ms).sort()).toEqual(
      ['hold', 'freeze', 'disk', 'commit', 'teardown', 'total'].sort(),
    );
    expect(footprint(instance)).toMatchObject({ monitors: [], cgroups: [], directories: [] });
    const [, checkpoint] = (await perch.sandboxes.history(id)).items;
    expect(checkpoint).toMatchObject({ checkpoint: 1, parent: 0, kind: 'pause', memory: false });
    expect(checkpoint?.own_bytes).toBeLessThan(small.memory_mb * 2 ** 18);

    const [resumed, toldWithin] = await timed(() => perch.sandboxes.resume(id));
    expect(resumed).toMatchObject({ id, status: 'running', metadata: { a: 'b' } });
    expect(resumed.timings_ms).toMatchObject({ agent: expect.any(Number), identity: expect.any(Number) });
    await expectRightClock(perch, id, toldWithin);
    expect(await sh(perch, id, 'md5sum -c --quiet sum; ls /dev/shm; hostname; echo $COLOUR')).toBe(
      `${id}\nblue\n`,
    );
    expect(await sh(perch, id, 'sudo dmesg | grep -ci recover || true')).toBe('0\n');
    const after = await aliveIn(id);
    expect(after).not.toContain('asleep');
    expect(after).not.toBe(before.replace('asleep\n', ''));

    // What runs since then is kept as ever, and what goes on from its disk alone boots.
    await sleepIn(id);
    await sh(perch, id, 'echo later > later');
    await perch.sandboxes.pause(id);
    await perch.sandboxes.resume(id);
    expect(await aliveIn(id)).toBe(`${after}asleep\n`);
    await perch.snapshots.create({ sandbox_id: id, name: 'disk-alone', memory: false });
    expect(await aliveIn(id)).toBe(`${after}asleep\n`);
    await perch.sandboxes.pause(id);
    expect((await perch.sandboxes.history(id)).items.map(({ memory }) => memory)).toEqual([true, true, true]);
    await perch.sandboxes.resume(id, { memory: false });
    expect(await aliveIn(id)).not.toContain('asleep');
    await perch.sandboxes.pause(id);
    await perch.sandboxes.resume(id);
    expect(await sh(perch, id, 'md5sum -c --quiet sum; cat later')).toBe('later\n');

    expect(await perch.snapshots.get('disk-alone')).toMatchObject({ memory: false, sandbox_id: id });
    await using made = await newSandbox(perch, { ...small, template: 'disk-alone' });
    expect(await sh(perch, made.id, 'md5sum -c --quiet sum; ls; hostname')).toBe(
      `kept\nlater\nsum\n${made.id}\n`,
    );
    expect(await aliveIn(made.id)).not.toContain('asleep');
    await perch.snapshots.delete('disk-alone');
  },
  300_000 * slowness,
);

test('a guest that holds its disk for a pause which nobody goes on with writes again by itself', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  const call = () => perch.sandboxes.pause(id, { memory: false }).then(() => []);
  expect(await armed.endAt('cold.held', { call })).toHaveProperty('refused');
  await eventually(async () => (await perch.sandboxes.get(id)).status === 'running', 30_000 * slowness);
  expect(await sh(perch, id, 'echo written > file && sync && cat file')).toBe('written\n');
});

test('the guest has the time of day and random numbers of its own after each resume', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  await sh(perch, id, 'sudo date --set="1 hour ago"');
  await perch.sandboxes.pause(id);
  const [, toldWithin] = await timed(() => perch.sandboxes.resume(id));
  await expectRightClock(perch, id, toldWithin);
  expect(await sh(perch, id, 'hostname; cat /etc/hostname')).toBe(`${id}\n${id}\n`);
});

test('sandboxes that go on from one snapshot share no random numbers and no identity', async () => {
  await using first = await newSandbox(perch, small);
  await using second = await newSandbox(perch, small);
  const tell = (id: string) =>
    sh(
      perch,
      id,
      'head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname',
    );
  const lives = [await tell(first.id), await tell(second.id)];
  await perch.sandboxes.pause(first.id);
  await perch.sandboxes.resume(first.id);
  lives.push(await tell(first.id));
  const lines = lives.map((text) => text.trim().split('\n'));
  for (const [a, b] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const) {
    const same = (lines[a] ?? []).filter((line, i) => line === lines[b]?.[i]);
    // A resumed sandbox is the same machine, with new random numbers.
    expect(same.length, lives.join('---\n')).toBe(a === 0 && b === 2 ? 2 : 0);
  }
  expect(lines[0]?.length).toBe(5);
});

test('a command that somebody listens to lives on; the one who listens is told', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  const stream = await perch.sandboxes.execStream(id, {
    cmd: 'bash',
    args: [
      '-c',
      'beat() { date +%s%N > /tmp/beat && mv /tmp/beat /tmp/alive; }; beat; echo $$; while sleep 0.2; do beat; done',
    ],
  });
  let heard = '';
  const listening = (async () => {
    for await (const event of stream)
      if (event.type === 'stdout') heard += new TextDecoder().decode(event.data);
  })();
  const told = expect(listening).rejects.toMatchObject({
    code: 'sandbox_not_running',
    message: expect.stringMatching(
      `^Sandbox ${id} is paused, not running. Command \\d+ goes on when the sandbox is resumed.$`,
    ),
  });
  const pid = await eventually(() => /^(\d+)\n/.exec(heard)?.[1]);
  await perch.sandboxes.pause(id);
  await told;
  await perch.sandboxes.resume(id);
  expect(await sh(perch, id, `test -d /proc/${pid} && cat /tmp/alive`)).toMatch(/^\d+\n$/);
  const before = await sh(perch, id, 'cat /tmp/alive');
  await eventually(async () => (await sh(perch, id, 'cat /tmp/alive')) !== before);
});

test('a command with a time-out has what was left of it after a resume, and not more', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  const timeoutSec = 10;
  // Its children are to go with it, and it tells when it began and lived last, by the guest's own clock.
  const line =
    'read -r up _ < /proc/uptime; echo $$ $up > /tmp/begun; sleep 777 & ' +
    'while sleep 0.1; do read -r up _ < /proc/uptime; echo $up > /tmp/beat && mv /tmp/beat /tmp/lived; done';
  const command = perch.sandboxes.exec(id, { cmd: 'bash', args: ['-c', line], timeout_sec: timeoutSec });
  const told = expect(command).rejects.toMatchObject({ code: 'sandbox_not_running' });
  const begun = await eventually(() => sh(perch, id, 'test -e /tmp/lived && cat /tmp/begun').catch(() => ''));
  const [pid, beganAt] = begun.trim().split(' ');
  const livedFor = async () => Number(await sh(perch, id, 'cat /tmp/lived')) - Number(beganAt);
  // So far from both ends that a life that is cut at the resume and one that begins anew there are told apart.
  await eventually(async () => (await livedFor()) > timeoutSec / 2);
  await perch.sandboxes.pause(id);
  await told;
  await sleep((timeoutSec / 2) * 1000);
  await perch.sandboxes.resume(id);
  expect(await sh(perch, id, `kill -0 ${pid} && echo lives`)).toBe('lives\n');
  await eventually(async () => (await sh(perch, id, `kill -0 ${pid} 2>/dev/null || echo gone`)) === 'gone\n');
  expect(await sh(perch, id, 'pgrep -fc "[s]leep 777" || true')).toBe('0\n');
  const lived = await livedFor();
  expect(lived).toBeGreaterThan(timeoutSec - 2);
  expect(lived).toBeLessThan(timeoutSec + 4);
});

describe('what the state of a sandbox does not allow is 409 and names the state', () => {
  test('for a paused one', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    await perch.sandboxes.pause(id);
    const refused = { code: 'sandbox_not_running', status: 409, details: { id, status: 'paused' } };
    await expect(perch.sandboxes.pause(id)).rejects.toMatchObject(refused);
    await expect(sh(perch, id, 'true')).rejects.toMatchObject(refused);
    await expect(perch.sandboxes.files.read(id, 'x')).rejects.toMatchObject(refused);
    expect((await perch.sandboxes.get(id)).status).toBe('paused');
  });

  test('for a running one', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    await expect(perch.sandboxes.resume(id)).rejects.toMatchObject({
      code: 'sandbox_not_paused',
      status: 409,
    });
    expect(await sh(perch, id, 'echo runs')).toBe('runs\n');
  });
});

test('a paused sandbox survives its host agent, its control plane, and all of Perch', async () => {
  await using sandbox = await newSandbox(perch, small);
  const { id } = sandbox;
  await startKeeper(id);
  const { holds } = await ask(id);
  await perch.sandboxes.pause(id);
  for (const daemon of ['perch-host', 'perchd'] as const) {
    const pid = daemonPid(instance.dataDir, daemon);
    if (pid === undefined) throw new Error(`${daemon} does not run`);
    process.kill(pid, 'SIGKILL');
    await eventually(() => ![undefined, pid].includes(daemonPid(instance.dataDir, daemon)), 60_000);
  }
  await instance.stop();
  await instance.up();
  expect((await perch.sandboxes.get(id)).status).toBe('paused');
  await perch.sandboxes.resume(id);
  await expectWhole(id, holds);
});

test('a paused sandbox that is destroyed leaves nothing', async () => {
  const sandbox = await newSandbox(perch, small);
  await perch.sandboxes.pause(sandbox.id);
  await sandbox[Symbol.asyncDispose]();
  await expect.poll(() => footprint(instance), { timeout: 30_000 * slowness }).toEqual(footprintOf());
  expect((await instance.leaks()).filter(({ kind }) => kind === 'directory' || kind === 'snapshot')).toEqual(
    [],
  );
});
