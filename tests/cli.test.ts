/** The `perch` command as people and scripts use it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { beforeAll, describe, expect, test } from 'vitest';
import { hostSocket } from '../apps/cli/src/launcher/index.ts';
import { openCgroups } from '../apps/host-agent/src/linux/index.ts';
import { type Sandbox, type SandboxLogs, sandboxIdPattern } from '../packages/protocol/src/index.ts';
import { CommandLine, end, sha256 } from './setup/command-line.ts';
import { eventually } from './setup/eventually.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { env, dataDir } = shared;

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch);
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

const line = new CommandLine();
const start: CommandLine['start'] = (args, more) => line.start(args, more);
const run: CommandLine['run'] = (args, more) => line.run(args, more);
const exec = (...command: string[]) => run(['exec', id, '--', ...command]);
const lines = <T>(out: string) =>
  out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as T);

test('create prints an id that ls lists, exec and logs take, and rm ends', async () => {
  const job = randomUUID();
  const wish = [
    '--memory',
    '256',
    '--disk',
    '1024',
    '--timeout',
    '600',
    '-e',
    'COLOUR=ü b',
    '-l',
    `job=${job}`,
  ];
  const created = await run(['create', ...wish]);
  expect(created).toMatchObject({ code: 0, stderr: '' });
  const made = created.stdout.trimEnd();
  expect(made).toMatch(new RegExp(sandboxIdPattern));
  try {
    const table = await run(['ls', '-l', `job=${job}`]);
    expect(table.code).toBe(0);
    expect(table.stdout).toMatch(/^ID +STATUS/);
    expect(table.stdout).toMatch(new RegExp(`^${made} +running +base +1 +256 MiB .*job=${job}`, 'm'));
    const [listed] = lines<Sandbox>((await run(['ls', '--json', '-l', `job=${job}`])).stdout);
    expect(listed).toMatchObject({ id: made, status: 'running', timeout_sec: 600, metadata: { job } });
    expect((await run(['exec', made, '--', 'printenv', 'COLOUR'])).stdout).toBe('ü b\n');
    const logs = await run(['logs', made]);
    expect(logs).toMatchObject({ code: 0, stdout: expect.stringMatching(/creating[\s\S]*running/) });
    const [parsed] = lines<SandboxLogs>((await run(['logs', '--json', made])).stdout);
    expect(parsed?.events.map(({ status }) => status)).toEqual(['creating', 'running']);
  } finally {
    expect(await run(['rm', made])).toMatchObject({ code: 0, stdout: `${made}\n`, stderr: '' });
  }
  expect((await run(['rm', made])).code).toBe(0);
  expect((await run(['ls', '-l', `job=${job}`])).stdout).toContain('There are no sandboxes');
  expect((await run(['ls', '--all', '-l', `job=${job}`])).stdout).toContain('destroyed');
});

describe('run', () => {
  /** Those that came since, of those that this file makes at all. */
  const watch = async () => {
    const ids = async () => (await perch.sandboxes.list()).items.map((one) => one.id);
    const before = new Set(await ids());
    return async () => (await ids()).filter((one) => !before.has(one));
  };

  test('creates a sandbox for one command, with its input, output and exit code, and destroys it', async () => {
    const added = await watch();
    const script = 'cat; echo "$A"; pwd; id -un; echo oops >&2; exit 6';
    const options = ['--template', 'base', '-e', 'A=a b', '-w', '/tmp', '-u', 'root'];
    const result = await run(['run', ...options, '--', 'sh', '-c', script], { input: 'given\n' });
    expect(result).toMatchObject({ code: 6, stdout: 'given\na b\n/tmp\nroot\n', stderr: 'oops\n' });
    const events = lines((await run(['run', '--json', '--', 'echo', '--json'])).stdout);
    expect(events).toEqual([
      { type: 'stdout', data: '--json\n' },
      { type: 'exit', exit_code: 0 },
    ]);
    expect(await run(['run', '--timeout', '1', '--', 'sleep', '60'])).toMatchObject({ code: 124 });
    expect(await added()).toEqual([]);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('passes %s on, and destroys the sandbox then', async (signal, code) => {
    const added = await watch();
    // Without exec: dash loses a SIGINT that comes while it forks.
    const child = start(['run', '--', 'sh', '-c', 'echo ready; exec sleep 600']);
    await once(child.stdout, 'data');
    child.kill(signal);
    expect((await end(child)).code).toBe(code);
    expect(await added()).toEqual([]);
  });

  test('destroys the sandbox also when its reader goes away', async () => {
    const added = await watch();
    const child = start(['run', '--', 'yes']);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).toBe(141);
    expect(await added()).toEqual([]);
  });

  test('says what it cannot run', async () => {
    expect(await run(['run', '--', 'no-such-command'])).toMatchObject({ code: 127 });
    expect(await run(['run', '--template', 'nothing-like-it', '--', 'true'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('nothing-like-it'),
    });
    expect((await run(['run'])).code).toBe(2);
  });
});

describe('exec', () => {
  test('passes output, error output and exit code through, byte by byte', async () => {
    const script = 'printf "a\\377\\000b"; printf "ünï" >&2; exit 42';
    const { code, out, stderr } = await exec('bash', '-c', script);
    expect([code, [...out], stderr]).toEqual([42, [0x61, 0xff, 0, 0x62], 'ünï']);
    expect(await exec('no-such-command')).toMatchObject({ code: 127 });
    expect((await exec('bash', '-c', 'kill -9 $$')).code).toBe(137);
  });

  test('passes arguments as they are, and options of its own before the --', async () => {
    const script = 'import sys; print(sys.argv[1:])';
    expect((await exec('python3', '-c', script, '--json', '-u', 'a b', '$HOME', '')).stdout).toBe(
      "['--json', '-u', 'a b', '$HOME', '']\n",
    );
    const options = ['-u', 'root', '-w', '/tmp', '-e', 'A=1', '-e', 'B=x=y'];
    const result = await run(['exec', ...options, id, '--', 'bash', '-c', 'id -un; pwd; echo $A $B']);
    expect(result.stdout).toBe('root\n/tmp\n1 x=y\n');
  });

  test('passes standard input through to its end, whatever is in it', async () => {
    const input = randomBytes(3_000_000);
    const { code, out } = await run(['exec', id, '--', 'cat'], { input });
    expect([code, sha256(out)]).toEqual([0, sha256(input)]);
    expect((await run(['exec', id, '--', 'wc', '-c'])).stdout).toBe('0\n');
    // A command that reads nothing ends, though the input is still open.
    const child = start(['exec', id, '--', 'true']);
    expect((await end(child)).code).toBe(0);
  });

  test('shows output as it comes', async () => {
    const child = start(['exec', id, '--', 'bash', '-c', 'echo one; read; echo two']);
    const [first] = (await once(child.stdout, 'data')) as [Buffer];
    expect(first.toString()).toBe('one\n');
    child.stdin.end('\n');
    expect(await end(child)).toMatchObject({ code: 0, stdout: 'two\n' });
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('passes %s on', async (signal) => {
    const script = `trap 'echo got; exit 9' ${signal.slice(3)}; echo ready; while :; do sleep 0.1; done`;
    const child = start(['exec', id, '--', 'bash', '-c', script]);
    await once(child.stdout, 'data');
    child.kill(signal);
    expect(await end(child)).toMatchObject({ code: 9, stdout: 'got\n' });
  });

  test('that is killed takes its command with it', async () => {
    const mark = `mark-${randomUUID()}`;
    const count = async () => Number(await sh(perch, id, `pgrep -cf '[m]${mark.slice(1)}' || true`));
    const child = start(['exec', id, '--', 'bash', '-c', `echo ready; sleep 3600; : ${mark}`]);
    await once(child.stdout, 'data');
    expect(await count()).toBe(1);
    child.kill('SIGKILL');
    await end(child);
    await eventually(async () => (await count()) === 0);
  });

  test('ends quietly when its reader goes away', async () => {
    const child = start(['exec', id, '--', 'yes']);
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).toBe(141);
  });

  test('tells time-outs and what it cannot run by exit codes of its own', async () => {
    const late = await run(['exec', '-t', '3', id, '--', 'bash', '-c', 'echo begun; sleep 3600']);
    expect(late).toMatchObject({ code: 124, stdout: 'begun\n' });
    expect(late.stderr).toMatch(/took longer than 3 s/);
    const nobody = await run(['exec', '-u', 'nobody-here', id, '--', 'true']);
    expect(nobody).toMatchObject({ code: 125, stderr: expect.stringContaining('nobody-here') });
  });

  test('with --json prints an event a line', async () => {
    const { code, stdout } = await run([
      'exec',
      '--json',
      id,
      '--',
      'bash',
      '-c',
      'echo ü; printf "\\377" >&2; exit 3',
    ]);
    expect(code).toBe(3);
    const events = lines(stdout);
    expect(events).toContainEqual({ type: 'stdout', data: 'ü\n' });
    expect(events).toContainEqual({ type: 'stderr', data_base64: '/w==' });
    expect(events.at(-1)).toEqual({ type: 'exit', exit_code: 3 });
  });
});

test('doctor checks this machine, with a line for each finding', async () => {
  const { code, stdout } = await run(['doctor']);
  expect([code, stdout]).toEqual([0, expect.stringMatching(/✓/)]);
  const findings = lines<{ name: string; status: string; detail: string; remedy?: string }>(
    (await run(['doctor', '--json'])).stdout,
  );
  expect(findings.length).toBeGreaterThan(5);
  for (const { name, status, remedy } of findings) {
    expect(['ok', 'warning'], name).toContain(status);
    if (status === 'warning') expect(remedy, name).toMatch(/./);
  }
});

test('doctor judges this machine as the host agent does', async () => {
  const findings = lines<{ name: string; detail: string }>((await run(['doctor', '--json'])).stdout);
  const detail = (name: string) => findings.find((one) => one.name === name)?.detail;
  const { machine } = await hostSocket(dataDir).info();
  expect(detail('QEMU')).toMatch(new RegExp(`^${machine.monitor.version} at /`));
  const { description, missing } = await openCgroups();
  const lack = missing.length === 0 ? '' : `, without ${missing.join(', ')}`;
  expect(detail('cgroups')).toBe(`${description}${lack}`);
});

test('doctor looks at the Perch that PERCH_URL names', async () => {
  const { stdout } = await run(['doctor', '--json'], {
    env: { PERCH_URL: `http://${env.PERCH_LISTEN}`, PERCH_LISTEN: '127.0.0.1:48' },
  });
  const findings = lines<{ name: string; status: string; detail: string }>(stdout);
  const perchd = findings.find(({ name }) => name === 'perchd');
  expect(perchd).toMatchObject({
    status: 'ok',
    detail: expect.stringContaining(`http://${env.PERCH_LISTEN}`),
  });
  expect(findings.map(({ name }) => name)).toContain('API key');
});

describe('without a Perch that answers', () => {
  const nowhere = { PERCH_LISTEN: '', PERCH_URL: 'http://127.0.0.1:48' };
  const unknown = `sb${'0'.repeat(18)}`;

  test.each([
    [['ls'], 1],
    [['create'], 1],
    [['rm', unknown], 1],
    [['logs', unknown], 1],
    [['cp', `${unknown}:x`, '-'], 1],
    [['exec', unknown, '--', 'true'], 125],
  ])('%j says what to do', async (args, code) => {
    const [result, json] = await Promise.all([
      run(args, { env: nowhere }),
      run(['--json', ...args], { env: nowhere }),
    ]);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(
      /^✗ Perch does not answer at http:\/\/127\.0\.0\.1:48 \(\w+\)\.\n {2}.*perch up/,
    );
    expect([json.code, JSON.parse(json.stderr)]).toEqual([
      code,
      {
        error: {
          code: 'connection_error',
          message: expect.any(String),
          remedy: expect.stringContaining('perch up'),
        },
      },
    ]);
  });
});

describe('what is wrong is told with what to do', () => {
  const unknown = `sb${'0'.repeat(18)}`;

  test.each<[string[], number, RegExp]>([
    [['rm', unknown], 1, /No sandbox "sb0+"\.\n {2}.*\S/],
    [['logs', unknown], 1, /No sandbox/],
    [['exec', unknown, '--', 'true'], 125, /No sandbox/],
    [['create', '--template', 'nope'], 1, /No template "nope"\.\n {2}.*\S/],
    [['create', '--vcpus', '1000'], 1, /vcpus must be an integer between 1 and 16/],
    [['create', '--memory', 'much'], 2, /whole number of MiB/],
    [['create', '--env', 'A'], 2, /KEY=VALUE/],
    [['create', '--colour', 'red'], 2, /unknown option '--colour'/],
    [['exec', unknown], 2, /missing required argument/],
    [['fly'], 2, /unknown command 'fly'/],
  ])('%j', async (args, code, message) => {
    const [result, json] = await Promise.all([run(args), run(['--json', ...args])]);
    expect(result).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(message) });
    const { error } = JSON.parse(json.stderr) as { error: Record<string, string> };
    expect([json.code, json.stdout]).toEqual([code, '']);
    expect(error).toMatchObject({
      code: expect.any(String),
      message: expect.any(String),
      remedy: expect.stringMatching(/./),
    });
  });

  test('a key that is not valid', async () => {
    const result = await run(['ls'], { env: { PERCH_API_KEY: `perch_${'0'.repeat(40)}` } });
    expect(result).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/key is not valid\.\n {2}\S/),
    });
  });
});
