import { expect, test } from 'vitest';
import { TokenBuckets } from './rate-limit.ts';

test('a burst passes, what comes after waits, and time refills it', () => {
  let now = 0;
  const buckets = new TokenBuckets({ burst: 10, seconds: 10 }, () => now);
  for (let i = 0; i < 10; i++) expect(buckets.take('a')).toBe(0);
  expect(buckets.take('a')).toBe(1);
  now += 2_000;
  expect(buckets.take('a')).toBe(0);
  expect(buckets.take('a')).toBe(0);
  expect(buckets.take('a')).toBe(1);
});

test('one name does not use up what another has', () => {
  const buckets = new TokenBuckets({ burst: 1, seconds: 100 }, () => 0);
  expect(buckets.take('a')).toBe(0);
  expect(buckets.take('b')).toBe(0);
  expect(buckets.take('a')).toBe(100);
});
