import { describe, expect, test } from 'vitest';
import { findTool, RunError, run } from './run.ts';

const failure = async (promise: Promise<unknown>): Promise<RunError> => {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof RunError)) throw new Error('expected a RunError');
  return error;
};

describe('run', () => {
  test('gives the input to the tool and its output back', async () => {
    expect(await run('cat', [], { input: 'hello' })).toEqual({ stdout: 'hello', stderr: '' });
  });

  test('interprets nothing: arguments reach the tool as they are', async () => {
    expect((await run('printf', ['%s', '$(id); *'])).stdout).toBe('$(id); *');
  });

  test('hands on nothing of our environment', async () => {
    process.env.PERCH_RUN_TEST = 'secret';
    const { stdout } = await run('env', []);
    expect(stdout).not.toContain('secret');
    expect(stdout).toContain('LC_ALL=C');
  });

  test('reports status and stderr of a tool that failed', async () => {
    const error = await failure(run('sh', ['-c', 'echo out; echo wrong >&2; exit 3']));
    expect(error).toMatchObject({ outcome: 'failed', exitCode: 3, stdout: 'out\n', stderr: 'wrong\n' });
    expect(error.message).toMatch(/exit status 3: wrong$/);
  });

  test('tells a tool that never ran from one that failed', async () => {
    expect((await failure(run('/no/such/tool', ['x']))).outcome).toBe('not_started');
  });

  test('kills a tool that takes too long, with its children, and says that the outcome is unknown', async () => {
    const error = await failure(run('sh', ['-c', 'sleep 1000 & sleep 1000'], { timeoutMs: 100 }));
    expect(error.outcome).toBe('unknown');
    expect(error.message).toContain('100 ms');
  });

  test('kills a tool that floods its output', async () => {
    const error = await failure(run('yes', [], { maxOutput: 10_000 }));
    expect(error.outcome).toBe('unknown');
    expect(error.message).toContain('10000 bytes');
  });

  test('keeps the end status of a tool that did not read its input', async () => {
    const error = await failure(run('sh', ['-c', 'exit 5'], { input: 'x'.repeat(1 << 20) }));
    expect(error.exitCode).toBe(5);
  });
});

test('a tool is found where it would be run, and nowhere else', async () => {
  const path = findTool('ip');
  expect(path).toMatch(/\/ip$/);
  expect((await run('sh', ['-c', 'command -v ip'])).stdout.trim()).toBe(path);
  expect(findTool('no-such-tool')).toBeUndefined();
});
