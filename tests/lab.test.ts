import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtempDisposable, readdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { beforeAll, describe, expect, test } from 'vitest';
import { cacheDir } from '../images/index.ts';
import { bringCheckout } from '../lab/checkout.ts';
import { createGuestClient } from '../packages/guest-client/src/index.ts';

const program = join(import.meta.dirname, '../lab/main.ts');
/** The first run boots the lab; under load that takes its time. */
const bootMs = 900_000;
const soon = { timeout: 60_000 };

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [program, ...args], { env: { ...process.env, ...env } });
}

async function ended(child: ChildProcess): Promise<Run> {
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout as Readable),
    text(child.stderr as Readable),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

async function lab(...args: string[]): Promise<Run> {
  return await labWith({}, ...args);
}

async function labWith(env: Record<string, string>, ...args: string[]): Promise<Run> {
  const child = start(args, env);
  child.stdin?.end();
  return await ended(child);
}

/** A script without single quotes that says when it is ready, and lasts until the signal does what is to be done. */
function until(signal: string, then: string): string {
  return `trap "${then}" ${signal}; echo ready; while :; do sleep 0.1; done`;
}

/** Resolves when the command has said that it is ready. */
async function ready({ stdout }: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let said = '';
  stdout?.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-64);
    if (/ready\r?\n/.test(said)) resolve();
  });
  stdout?.once('end', () => reject(new Error('It ended before it was ready.')));
  await promise;
}

/** A cache with the parts and states that there are, whose states can be removed. */
async function ownCache(dir: string): Promise<{ PERCH_CACHE: string }> {
  const cache = cacheDir();
  for (const name of await readdir(cache)) {
    if (name !== 'lab-states') await symlink(join(cache, name), join(dir, name));
  }
  await mkdir(join(dir, 'lab-states'));
  for (const name of statesOf(cache))
    await symlink(join(cache, 'lab-states', name), join(dir, 'lab-states', name));
  return { PERCH_CACHE: dir };
}

function statesOf(cache: string): string[] {
  return readdirSync(join(cache, 'lab-states')).filter((name) => !name.startsWith('.lock-'));
}

function childrenOf(pid: number | undefined): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);
}

beforeAll(async () => {
  expect(await lab('true')).toMatchObject({ code: 0 });
}, bootMs);

describe('a command in the lab', () => {
  test('has its input, output and exit code as if it ran here', async () => {
    const child = start(['--', 'sh', '-c', 'cat; echo complaint >&2; exit 7']);
    child.stdin?.end('one\ntwo\n');
    expect(await ended(child)).toEqual({ code: 7, stdout: 'one\ntwo\n', stderr: 'complaint\n' });
  });

  test('gets the signals that its runner gets', async () => {
    const child = start(['sh', '-c', until('INT', 'exit 9')]);
    await ready(child);
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([9, null]);
  });

  test('gets the Ctrl-C of the terminal of its runner, which the lab does not', async () => {
    const command = `${process.execPath} ${program} sh -c '${until('INT', 'exit 9')}'`;
    const runner = spawn('script', ['-qefc', command, '/dev/null']);
    const run = ended(runner);
    await ready(runner);
    runner.stdin.write('\x03');
    expect(await run).toMatchObject({ code: 9 });
  });

  test('that does not end when it is told to ends with its lab', async () => {
    const child = start(['sh', '-c', until('TERM', '')]);
    await ready(child);
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([143, null]);
  });

  test('ends when nobody reads its output', async () => {
    const child = start(['yes', 'ready']);
    await ready(child);
    child.stdout?.destroy();
    expect(await once(child, 'exit')).toEqual([141, null]);
  });

  test('that is not there ends as in a shell', async () => {
    expect(await lab('no-such-command')).toMatchObject({ code: 127 });
  });

  test('may be a shell that has this terminal', async () => {
    const command = `${process.execPath} ${program} --shell`;
    const shell = spawn('script', ['-qefc', `stty rows 33 cols 77; ${command}`, '/dev/null']);
    shell.stdin.end('stty size; tty\nexit 5\n');
    const { code, stdout } = await ended(shell);
    expect(stdout).toMatch(/33 77\r+\n/);
    expect(stdout).toContain('/dev/pts/');
    expect(code).toBe(5);
  });

  test('finds this checkout, its packages and what was built', async () => {
    const { stdout } = await lab(
      'sh',
      '-c',
      'cd /perch && cat package.json | head -2 && node scripts/setup.ts',
    );
    expect(stdout).toContain('"name": "perch"');
    expect(stdout).toContain('✓ base image');
  });

  test('finds device-mapper, cgroup v2 and systemd', async () => {
    const script = `set -e
      truncate -s 64M $TMPDIR/base $TMPDIR/cow
      base=$(losetup -f --show -r $TMPDIR/base) cow=$(losetup -f --show $TMPDIR/cow)
      dmsetup create perch-lab --table "0 131072 snapshot $base $cow PO 8"
      dmsetup status perch-lab
      dmsetup remove perch-lab
      stat -f -c %T /sys/fs/cgroup
      cat /proc/1/comm`;
    const { stdout, stderr } = await lab('sh', '-c', script);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^0 131072 snapshot 16\/131072 16\ncgroup2fs\nsystemd\n$/);
  });

  test('finds reflinks on XFS, and none on ext4', async () => {
    const clone = 'echo x > $TMPDIR/a && cp --reflink=always $TMPDIR/a $TMPDIR/b';
    expect(await lab('--data', 'xfs', 'sh', '-c', clone)).toMatchObject({ code: 0 });
    expect(await lab('--data', 'ext4', 'sh', '-c', clone)).toMatchObject({ code: 1 });
  });

  test('has no way out of the lab', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    let reached = false;
    server.on('connection', () => {
      reached = true;
    });
    const { port } = server.address() as { port: number };
    const connect = (address: string, port: number) =>
      lab('timeout', '5', 'bash', '-c', `exec 3<> /dev/tcp/${address}/${port}`);
    // QEMU's own network leads from this address to the loopback of this machine, unless it is told not to.
    expect((await connect('10.0.2.2', port)).code).not.toBe(0);
    expect(reached).toBe(false);
    expect(await connect('10.0.2.15', 49_983)).toMatchObject({ code: 0 });
    server.close();
  });
});

test('a checkout that changes while it is brought is refused: the lab would have other files than is known', async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), 'perch-checkout-'));
  const written = join(root.path, 'file');
  await writeFile(written, '');
  execFileSync('git', ['init', '-q', root.path]);
  const changing = setInterval(() => appendFileSync(written, 'x'), 1);
  const nobody = createGuestClient({ address: '127.0.0.1', port: 9, accessToken: '', sandboxId: 'lab' });
  try {
    await expect(bringCheckout(nobody, root.path, new Map())).rejects.toThrow('was changed while');
  } finally {
    clearInterval(changing);
  }
});

describe('labs', () => {
  test('go on side by side, each with a world of its own', async () => {
    const write = (name: string) => lab('sh', '-c', `echo ${name} > /perch/who; sleep 1; cat /perch/who`);
    const runs = await Promise.all([write('one'), write('two')]);
    expect(runs.map(({ stdout }) => stdout)).toEqual(['one\n', 'two\n']);
  });

  test('leave no process and no file when their runner is killed', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-lab-test-'));
    const child = start(['sh', '-c', 'echo ready; sleep 1000'], { TMPDIR: dir.path });
    await ready(child);
    const [qemu = 0] = childrenOf(child.pid);
    expect(commandOf(qemu)).toContain('qemu');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await expect.poll(() => isAlive(qemu), soon).toBe(false);
    expect(readdirSync(dir.path)).toEqual([]);
  });

  test('that die are told from commands that fail, and run again only when that was asked for', async () => {
    const child = start(['--repeat', '1', 'sh', '-c', 'echo ready; sleep 2']);
    const all = ended(child);
    await ready(child);
    for (const pid of childrenOf(child.pid)) process.kill(pid, 'SIGKILL');
    const { code, stderr } = await all;
    expect(stderr).toContain('The lab ended by itself (SIGKILL)');
    expect(stderr).toContain('run 2 times, since the lab died once');
    expect(code).toBe(0);

    const alone = start(['sh', '-c', 'echo ready; sleep 1000']);
    const end = ended(alone);
    await ready(alone);
    for (const pid of childrenOf(alone.pid)) process.kill(pid, 'SIGKILL');
    const died = await end;
    expect(died.stderr).toContain('run once, since the lab died once');
    expect(died.code).toBe(75);
  });
});

describe('the state that labs go on from', () => {
  test(
    'is made anew when that is asked for, and a run that was killed meanwhile leaves nothing',
    async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-lab-test-'));
      const env = await ownCache(dir.path);
      const killed = start(['--fresh', 'true'], env);
      const exit = once(killed, 'exit');
      await once(killed.stderr as Readable, 'data');
      const qemus = () => childrenOf(killed.pid).filter((pid) => commandOf(pid).includes('mem-path='));
      await expect.poll(qemus, soon).toHaveLength(1);
      const [qemu = 0] = qemus();
      killed.kill('SIGKILL');
      await exit;
      await expect.poll(() => isAlive(qemu), soon).toBe(false);

      const before = statesOf(dir.path).filter((name) => !name.startsWith('.'));
      expect(await labWith(env, '--fresh', 'true')).toMatchObject({
        code: 0,
        stderr: expect.stringContaining('booting'),
      });
      expect(statesOf(dir.path)).toEqual(before);
      expect(await labWith(env, 'true')).toEqual({ code: 0, stdout: '', stderr: '' });
    },
    bootMs,
  );

  test('goes with all labs that go on from it, and with no other lab', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-lab-test-'));
    const env = await ownCache(dir.path);
    const [its, other] = [
      start(['sh', '-c', 'echo ready; cat'], env),
      start(['sh', '-c', 'echo ready; cat']),
    ];
    await Promise.all([ready(its), ready(other)]);
    const exits = [once(its, 'exit'), once(other, 'exit')];
    expect((await labWith(env, '--down')).stdout).toBe('Ended 1 lab; the next run boots anew.\n');
    expect(await exits[0]).toEqual([null, 'SIGKILL']);
    expect(readdirSync(dir.path)).not.toContain('lab-states');
    other.stdin?.end();
    expect(await exits[1]).toEqual([0, null]);
  });
});

test.each([
  ['nothing', [], 'Name a command'],
  ['an option that is not there', ['--nonsense', 'true'], "Unknown option '--nonsense'"],
  ['a disk that is not there', ['--data', 'btrfs', 'true'], '--data must be ext4 or xfs'],
  ['a count that is none', ['--repeat', 'often', 'true'], '--repeat must be a number'],
  ['a shell without a terminal', ['--shell'], '--shell needs a terminal'],
  ['a shell with a command', ['--shell', 'true'], '--shell takes no command, and there is true'],
  ['an end with a command', ['--down', '--', 'true'], '--down takes no command, and there is true'],
])('%s is told what the lab takes', async (_, args, complaint) => {
  const { code, stderr } = await lab(...args);
  expect(code).toBe(2);
  expect(stderr).toContain(complaint);
  expect(stderr).toContain('Usage: npm run lab');
});

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ');
  } catch {
    return false;
  }
}
