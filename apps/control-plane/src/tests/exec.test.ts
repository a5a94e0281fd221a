import { type ErrorBody, type ExecResult, ExecResult as ExecResultSchema } from '@perch/protocol';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
let id: string;
beforeAll(async () => {
  plane = await TestPlane.start();
  ({ id } = await plane.create());
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

async function exec(json: object, status = 200): Promise<ExecResult> {
  const answer = await plane.fetch(`/v1/sandboxes/${id}/exec`, { json });
  expect(answer.status).toBe(status);
  return (await answer.json()) as ExecResult;
}
const sh = (script: string, more: object = {}) => exec({ cmd: 'sh', args: ['-c', script], ...more });

test('output, error output and exit code come back', async () => {
  const result = await sh('echo out; echo err >&2; exit 3');
  expect(Check(ExecResultSchema, result)).toBe(true);
  expect(result).toMatchObject({
    stdout: 'out\n',
    stderr: 'err\n',
    exit_code: 3,
    encoding: { stdout: 'utf-8', stderr: 'utf-8' },
    truncated: { stdout: false, stderr: false },
  });
  expect(result.duration_ms).toBeGreaterThan(0);
});

test('environment, directory and stdin reach the command', async () => {
  expect((await sh('echo $A; pwd', { env: { A: 'b' }, cwd: '/tmp' })).stdout).toBe('b\n/tmp\n');
  const stdin = 'é\n'.repeat(100_000);
  expect((await exec({ cmd: 'cat', stdin })).stdout).toBe(stdin);
  expect((await exec({ cmd: 'cat', stdin: '' })).stdout).toBe('');
  expect((await exec({ cmd: 'cat' })).stdout).toBe('');
});

test('a command that reads none of its stdin ends all the same', async () => {
  expect((await exec({ cmd: 'true', stdin: 'x'.repeat(1_000_000) })).exit_code).toBe(0);
});

test('only the stream that is no UTF-8 comes as base64', async () => {
  const result = await sh("printf 'a\\377b'; printf 'ünï' >&2");
  expect(result.encoding).toEqual({ stdout: 'base64', stderr: 'utf-8' });
  expect(Buffer.from(result.stdout, 'base64')).toEqual(Buffer.from([0x61, 0xff, 0x62]));
  expect(result.stderr).toBe('ünï');
});

test('output past 8 MiB is cut, says so, and does not stop the command', async () => {
  const result = await sh('head -c 9000000 /dev/zero | tr "\\0" x; echo done >&2');
  expect(result.stdout.length).toBe(8 * 1024 * 1024);
  expect(result).toMatchObject({
    stderr: 'done\n',
    exit_code: 0,
    truncated: { stdout: true, stderr: false },
  });
});

test('a command that does not exist is exit code 127', async () => {
  expect(await exec({ cmd: 'no-such-command' })).toMatchObject({ exit_code: 127 });
});

test('a command that a signal ends is exit code 128 + n', async () => {
  expect(await sh('kill -9 $$')).toMatchObject({ exit_code: 137 });
});

test('a directory that is not there is 400', async () => {
  const answer = await plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'true', cwd: '/no/such' } });
  expect(answer.status).toBe(400);
  expect(((await answer.json()) as ErrorBody).error.code).toBe('invalid_cwd');
});

test('a time-out is 504 with the output so far, and kills the command', async () => {
  const answer = await plane.fetch(`/v1/sandboxes/${id}/exec`, {
    json: { cmd: 'sh', args: ['-c', 'echo begun; sleep 60'], timeout_sec: 3 },
  });
  expect(answer.status).toBe(504);
  expect(await answer.json()).toMatchObject({
    error: {
      code: 'exec_timeout',
      message: 'The command took longer than 3 s and was killed.',
      details: { timeout_sec: 3, stdout: 'begun\n', stderr: '', encoding: { stdout: 'utf-8' } },
    },
  });
  await eventually(() => plane.guests.get(id)?.children.size === 0);
});

test('a client that goes away ends its command', async () => {
  const gone = new AbortController();
  const json = { cmd: 'sleep', args: ['60'] };
  const asked = plane.fetch(`/v1/sandboxes/${id}/exec`, { json, signal: gone.signal }).catch(() => {});
  await eventually(() => plane.guests.get(id)?.children.size === 1);
  gone.abort();
  await asked;
  await eventually(() => plane.guests.get(id)?.children.size === 0);
});

test('a sandbox that is destroyed ends its commands with an answer', async () => {
  const other = await plane.create();
  const json = { cmd: 'sleep', args: ['60'] };
  const asked = plane.fetch(`/v1/sandboxes/${other.id}/exec`, { json });
  await eventually(() => plane.guests.get(other.id)?.children.size === 1);
  await plane.fetch(`/v1/sandboxes/${other.id}`, { method: 'DELETE' });
  const answer = await asked;
  expect(answer.status).toBe(409);
  expect(await answer.json()).toMatchObject({ error: { code: 'sandbox_not_running' } });
  const later = await plane.fetch(`/v1/sandboxes/${other.id}/exec`, { json: { cmd: 'true' } });
  expect(await later.json()).toMatchObject({ error: { code: 'sandbox_not_running' } });
});

test('a command is use of its sandbox at once', async () => {
  const begun = Date.now();
  await exec({ cmd: 'true' });
  const { last_active_at } = await plane.get(id);
  expect(Date.parse(last_active_at ?? '')).toBeGreaterThanOrEqual(begun);
});
