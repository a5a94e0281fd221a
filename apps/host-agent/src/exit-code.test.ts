import { expect, test } from 'vitest';
import { exitCodeOf } from './exit-code.ts';
import { ProcessRemains, run } from './linux/index.ts';
import { lookUpUser } from './user.ts';

const failure = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error: unknown) => error);

test('a tool that failed or was killed may work the next time, and settings that are wrong will not', async () => {
  const failed = await failure(run('false', []));
  const killed = await failure(run('sleep', ['60'], { timeoutMs: 10 }));
  const missing = await failure(run('/no/such/tool', []));
  const swept = new AggregateError([new Error('other'), failed]);
  const remains = new ProcessRemains('Process 1 did not end.');
  expect([failed, killed, swept, remains].map(exitCodeOf)).toEqual([1, 1, 1, 1]);
  expect([missing, new Error('PERCH_X is wrong.'), undefined].map(exitCodeOf)).toEqual([78, 78, 78]);
});

test('a user that is not there is told from a tool that could not look', async () => {
  const error = await failure(lookUpUser('no-such-user-of-perch'));
  expect(error).toMatchObject({ message: expect.stringContaining('useradd') });
  expect(exitCodeOf(error)).toBe(78);
});
