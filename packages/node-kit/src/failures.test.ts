import { expect, test } from 'vitest';
import { failuresOf } from './failures.ts';

function failing(name: string): Disposable {
  return {
    [Symbol.dispose]: () => {
      throw new Error(name);
    },
  };
}

test('a failure comes before those of the ends that it led to', () => {
  const fail = () => {
    using _second = failing('second end');
    using _first = failing('first end');
    throw new Error('failure');
  };
  let failed: unknown;
  try {
    fail();
  } catch (error) {
    failed = error;
  }
  expect(failuresOf(failed)).toEqual(['failure', 'first end', 'second end'].map((name) => new Error(name)));
});

test('any other error is itself', () => {
  const error = new Error('x', { cause: new Error('y') });
  expect(failuresOf(error)).toEqual([error]);
  expect(failuresOf(undefined)).toEqual([undefined]);
});
