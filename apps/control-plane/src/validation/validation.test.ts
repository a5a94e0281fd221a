import { CreateSandbox, ExecRequest, PerchError, SetTimeout } from '@perch/protocol';
import type { TSchema } from 'typebox';
import { expect, test } from 'vitest';
import { checker } from './index.ts';

function message(schema: TSchema, value: unknown): string {
  try {
    checker(schema, 'the body')(value);
  } catch (error) {
    if (error instanceof PerchError) return error.message;
    throw error;
  }
  return 'accepted';
}

test.each([
  [{ vcpus: 1.5 }, 'vcpus must be an integer between 1 and 16, got 1.5'],
  [{ vcpus: 0 }, 'vcpus must be an integer between 1 and 16, got 0'],
  [{ vcpus: 1000 }, 'vcpus must be an integer between 1 and 16, got 1000'],
  [{ vcpus: '2' }, 'vcpus must be an integer between 1 and 16, got "2"'],
  [{ vcpus: null }, 'vcpus must be an integer between 1 and 16, got null'],
  [{ memory_mb: 10_485_760 }, 'memory_mb must be an integer between 128 and 65536, got 10485760'],
  [{ timeout_mode: 'never' }, 'timeout_mode must be one of idle, fixed, got "never"'],
  [{ vcpu: 1 }, 'vcpu is unknown'],
  [{ template: '../x' }, 'template must be a string that matches ^[a-z0-9][a-z0-9._-]{0,62}$, got "../x"'],
  [{ metadata: { a: 1 } }, 'metadata.a must be a string of at most 4096 characters without NUL, got 1'],
  [{ env: { '1A': 'x' } }, 'env.1A is no valid name: it must match ^[A-Za-z_][A-Za-z0-9_]{0,255}$'],
  [{ env: { A: 'a\0b' } }, 'env.A must be a string of at most 32768 characters without NUL, got "a\\u0000b"'],
  [[], 'the body must be an object, got []'],
  [null, 'the body must be an object, got null'],
  [undefined, 'the body must be an object, got nothing'],
])('a wrong create is told what to correct: %j', (body, expected) => {
  expect(message(CreateSandbox, body)).toBe(expected);
});

test('every problem is told, not only the first', () => {
  expect(message(CreateSandbox, { vcpus: 0, memory_mb: 1, x: 1 })).toMatch(
    /x is unknown.*vcpus must.*memory_mb must|vcpus must.*memory_mb must.*x is unknown/,
  );
});

test('a missing field is named', () => {
  expect(message(SetTimeout, {})).toBe('timeout_sec is required');
  expect(message(ExecRequest, { args: [] })).toBe('cmd is required');
});

test('a long value is cut in the message', () => {
  expect(message(ExecRequest, { cmd: 'ls', cwd: 'x'.repeat(5_000) }).length).toBeLessThan(200);
});

test('metadata of too many entries or too long names is refused', () => {
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, 'v']));
  expect(message(CreateSandbox, { metadata: many })).toMatch(/^metadata must be an object of at most 64/);
  expect(message(CreateSandbox, { metadata: { ['k'.repeat(129)]: 'v' } })).toMatch(/is no valid name/);
});
