import { expect, test } from 'vitest';
import { cpuFingerprint } from './cpu.ts';

const one = (model: string, flags: string) =>
  `processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: ${model}\nmodel name\t: EPYC\nstepping\t: 1\ncpu MHz\t: 2445.4\nflags\t\t: ${flags}\n\nprocessor\t: 1\n`;

test('processors differ in model and in what they can do, not in speed or the order of a list', () => {
  const fingerprint = cpuFingerprint(one('17', 'fpu sse avx2'));
  expect(fingerprint).toMatch(/^AuthenticAMD\/25\/17\/1\/[0-9a-f]{16}$/);
  expect(cpuFingerprint(one('17', 'avx2 fpu sse').replace('2445.4', '3100.0'))).toBe(fingerprint);
  expect(cpuFingerprint(one('17', 'fpu sse'))).not.toBe(fingerprint);
  expect(cpuFingerprint(one('18', 'fpu sse avx2'))).not.toBe(fingerprint);
});

test('this machine has one', () => {
  expect(cpuFingerprint()).toMatch(/^.+\/.*\/[0-9a-f]{16}$/);
});
