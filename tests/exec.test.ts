/** A command from start to end in one request. */
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ExecRequest, ExecResult } from '../packages/protocol/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { refusal, rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';

const perch = sharedPerch();

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch, {
    memory_mb: 512,
    env: { OF_THE_SANDBOX: 'one', BOTH: 'sandbox' },
  });
  ({ id } = sandbox);
  return () => sandbox[Symbol.asyncDispose]();
});

const exec = (request: ExecRequest) => perch.sandboxes.exec(id, request);
const bash = (script: string, more: Partial<ExecRequest> = {}) =>
  exec({ cmd: 'bash', args: ['-c', script], ...more });
const ask = (json: ExecRequest, signal?: AbortSignal) =>
  rest(`/v1/sandboxes/${id}/exec`, { json, ...(signal ? { signal } : {}) });
/** Marks commands, to find them in the process list of the guest. */
const newMark = () => `mark-${randomUUID()}`;
/** A pattern that finds the mark, and not the command that looks for it. */
const patternOf = (mark: string) => mark.replace(/^m/, '[m]');
const processesOf = async (mark: string) =>
  Number(await sh(perch, id, `pgrep -cf '${patternOf(mark)}' || true`));

test('output, error output and exit code come back, each whole and apart', async () => {
  const answer = await ask({ cmd: 'bash', args: ['-c', 'echo out; echo err >&2; exit 3'] });
  expect(answer.status).toBe(200);
  const result = (await answer.json()) as ExecResult;
  expect(result).toEqual({
    stdout: 'out\n',
    stderr: 'err\n',
    exit_code: 3,
    duration_ms: expect.any(Number),
    encoding: { stdout: 'utf-8', stderr: 'utf-8' },
    truncated: { stdout: false, stderr: false },
  });
});

test('memory that ran out is told from a kill by hand', async () => {
  // It keeps what it has read of a line that never ends.
  const starved = await exec({ cmd: 'tail', args: ['/dev/zero'], timeout_sec: 300 });
  expect(starved).toMatchObject({ exit_code: 137, reason: 'out_of_memory' });
  const killed = await bash('kill -9 $$');
  expect(killed.exit_code).toBe(137);
  expect(killed.reason).toBe(undefined);
});

describe('exit codes are those of a shell', () => {
  test.each<[string, ExecRequest, number]>([
    ['success', { cmd: 'true' }, 0],
    ['a code of its own', { cmd: 'bash', args: ['-c', 'exit 255'] }, 255],
    ['no such command', { cmd: 'no-such-command' }, 127],
    ['no such path', { cmd: '/no/such/command' }, 127],
    ['a file that is no program', { cmd: '/etc/passwd' }, 126],
    ['a directory', { cmd: '/tmp' }, 126],
    ['SIGKILL', { cmd: 'bash', args: ['-c', 'kill -9 $$'] }, 137],
    ['SIGTERM', { cmd: 'bash', args: ['-c', 'kill -15 $$'] }, 143],
    ['SIGSEGV', { cmd: 'bash', args: ['-c', 'kill -11 $$'] }, 139],
  ])('%s', async (_name, request, code) => {
    const result = await exec(request);
    expect(result.exit_code).toBe(code);
    if (code === 127 || code === 126) expect(result.stderr).toContain(request.cmd);
  });
});

test('a command gets its arguments as they are, its environment, directory and user', async () => {
  const odd = ['', ' ', 'a b', '$HOME', '*', '"', "'", '\\', '\n', '\t', 'ü', '🦜', '-x', '--'];
  const args = await exec({ cmd: 'python3', args: ['-c', 'import sys; print(ascii(sys.argv[1:]))', ...odd] });
  const expected = await exec({
    cmd: 'python3',
    args: ['-c', 'import json,sys; print(ascii(json.load(sys.stdin)))'],
    stdin: JSON.stringify(odd),
  });
  expect(args.stdout).toBe(expected.stdout);
  expect(args.stdout).toContain('\\U0001f99c');

  const environment = await bash('echo "$OF_THE_SANDBOX $BOTH $OWN"; echo "$HOME $USER"; pwd; id -un', {
    env: { BOTH: 'command', OWN: 'ü = "x"' },
  });
  expect(environment.stdout).toBe('one command ü = "x"\n/home/user user\n/home/user\nuser\n');
  expect((await bash('pwd', { cwd: '/var/log' })).stdout).toBe('/var/log\n');
  expect((await bash('id -u; echo $HOME; pwd', { user: 'root' })).stdout).toBe('0\n/root\n/root\n');
});

test('stdin comes whole and then ends', async () => {
  const text = 'ü🦜\n'.repeat(200_000);
  expect((await exec({ cmd: 'cat', stdin: text })).stdout).toBe(text);
  expect((await exec({ cmd: 'wc', args: ['-c'], stdin: '' })).stdout).toBe('0\n');
  expect((await exec({ cmd: 'wc', args: ['-c'] })).stdout).toBe('0\n');
  expect((await exec({ cmd: 'true', stdin: text })).exit_code).toBe(0);
});

test('only the stream that is no UTF-8 comes as base64', async () => {
  const binary = await bash("printf 'a\\377b'; printf 'ünï 🦜' >&2");
  expect(binary.encoding).toEqual({ stdout: 'base64', stderr: 'utf-8' });
  expect(Buffer.from(binary.stdout, 'base64')).toEqual(Buffer.from([0x61, 0xff, 0x62]));
  expect(binary.stderr).toBe('ünï 🦜');
  const other = await bash("printf 'ok'; printf '\\342\\202' >&2");
  expect(other).toMatchObject({ stdout: 'ok', encoding: { stdout: 'utf-8', stderr: 'base64' } });
  const controls = await bash("printf 'a\\0b\\033[1m\\r\\n'");
  expect(controls).toMatchObject({ stdout: 'a\0b\u001b[1m\r\n', encoding: { stdout: 'utf-8' } });
});

test('output past 8 MiB a stream is cut and says so, and the command ends by itself', async () => {
  const result = await bash('head -c 10000000 /dev/zero | tr "\\0" x; head -c 8388608 /dev/zero >&2; exit 5');
  expect(result).toMatchObject({ exit_code: 5, truncated: { stdout: true, stderr: false } });
  expect(result.stdout.length).toBe(8 * 1024 * 1024);
  expect(result.stderr.length).toBe(8 * 1024 * 1024);
  const binary = await bash('head -c 9000000 /dev/zero | tr "\\0" "\\377" >&2');
  expect(binary).toMatchObject({
    encoding: { stderr: 'base64' },
    truncated: { stdout: false, stderr: true },
  });
  expect(Buffer.from(binary.stderr, 'base64').length).toBe(8 * 1024 * 1024);
  // 🦜 has four bytes, and an x before them makes the limit cut one in two.
  const text = await exec({ cmd: 'python3', args: ['-c', 'print("x" + "🦜" * 2200000, end="")'] });
  expect(text).toMatchObject({ encoding: { stdout: 'utf-8' }, truncated: { stdout: true } });
  expect(text.stdout).toMatch(/^x🦜/u);
  expect(Buffer.byteLength(text.stdout)).toBe(8 * 1024 * 1024 - 3);
});

test('a time-out is 504 with the output so far, and nothing of the command is left', async () => {
  const mark = newMark();
  // Of its children one ignores SIGTERM.
  const script = `trap '' TERM; echo begun; echo error >&2; sleep 3600 & bash -c 'sleep 3600; : ${mark}' & wait; : ${mark}`;
  const error = await refusal(await ask({ cmd: 'bash', args: ['-c', script], timeout_sec: 2 }));
  expect(error).toMatchObject({
    status: 504,
    code: 'exec_timeout',
    message: 'The command took longer than 2 s and was killed.',
    details: {
      timeout_sec: 2,
      stdout: 'begun\n',
      stderr: 'error\n',
      encoding: { stdout: 'utf-8', stderr: 'utf-8' },
      truncated: { stdout: false, stderr: false },
    },
  });
  await eventually(async () => (await processesOf(mark)) === 0);
});

test('a background process that holds the output open does not stall the end of its parent', async () => {
  const mark = newMark();
  const result = await bash(`bash -c 'sleep 3600; : ${mark}' & echo done`, { timeout_sec: 60 });
  expect(result).toMatchObject({ stdout: 'done\n', exit_code: 0 });
  expect(await processesOf(mark)).toBe(1);
  await sh(perch, id, `pkill -f '${patternOf(mark)}'`);
});

test('a user or directory that is not there is 400', async () => {
  expect(await refusal(await ask({ cmd: 'true', user: 'nobody-here' }))).toMatchObject({
    status: 400,
    code: 'invalid_user',
    details: { user: 'nobody-here' },
  });
  for (const cwd of ['/no/such', '/etc/passwd', '/root']) {
    expect(await refusal(await ask({ cmd: 'true', cwd }))).toMatchObject({
      status: 400,
      code: 'invalid_cwd',
      details: { cwd },
    });
  }
});

test('a client that goes away ends its command, with all of its processes', async () => {
  const mark = newMark();
  const gone = new AbortController();
  const args = ['-c', `bash -c 'sleep 3600; : ${mark}' & sleep 3600; : ${mark}`];
  const asked = ask({ cmd: 'bash', args }, gone.signal);
  asked.catch(() => {});
  await eventually(async () => (await processesOf(mark)) === 2);
  gone.abort();
  await expect(asked).rejects.toThrow();
  await eventually(async () => (await processesOf(mark)) === 0);
});

test('commands run side by side', async () => {
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, n) => bash(`echo ${n}; sleep 1; exit ${n}`)),
  );
  expect(results.map(({ stdout, exit_code }) => [stdout, exit_code])).toEqual(
    Array.from({ length: 20 }, (_, n) => [`${n}\n`, n]),
  );
});

test('a sandbox that is destroyed ends its commands with an answer, and takes no more', async () => {
  await using sandbox = await newSandbox(perch);
  const path = `/v1/sandboxes/${sandbox.id}/exec`;
  const running = rest(path, {
    json: { cmd: 'bash', args: ['-c', 'touch /tmp/begun; sleep 3600'], timeout_sec: 3600 },
  });
  await sh(perch, sandbox.id, 'until [ -e /tmp/begun ]; do sleep 0.1; done');
  await perch.sandboxes.delete(sandbox.id);
  const error = { status: 409, code: 'sandbox_not_running' };
  expect(await refusal(await running)).toMatchObject(error);
  expect(await refusal(await rest(path, { json: { cmd: 'true' } }))).toMatchObject(error);
});
