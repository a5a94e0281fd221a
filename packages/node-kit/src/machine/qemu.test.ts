import { describe, expect, test } from 'vitest';
import { run } from '../run.ts';
import { findQemu, isAtLeast, parseVersion } from './qemu.ts';

test('versions of QEMU are read and ordered', () => {
  expect(parseVersion('QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright')).toBe('10.0.2');
  expect(parseVersion('QEMU')).toBeUndefined();
  expect(isAtLeast('10.0.0', '10.0.0')).toBe(true);
  expect(isAtLeast('9.2.4', '10.0.0')).toBe(false);
  expect(isAtLeast('10.1.0', '10.0.9')).toBe(true);
});

describe('whether QEMU can be used', () => {
  const says = (text: string) => () => Promise.resolve({ stdout: text, stderr: '' });
  const remedy = expect.stringMatching(/apt-get install/);

  test('depends on its version', async () => {
    expect(await findQemu(says('version 10.0.2'))).toEqual({ version: '10.0.2', problem: undefined });
    expect(await findQemu(says('version 7.2.0'))).toEqual({
      version: '7.2.0',
      problem: { what: 'QEMU is 7.2.0; Perch needs 10.0.0 or later', remedy },
    });
    expect(await findQemu(says('?'))).toEqual({
      version: '',
      problem: { what: 'QEMU does not tell its version', remedy },
    });
  });

  test('is answered with the remedy when it is not there, or broken', async () => {
    const missing = await findQemu(() => run('/nonexistent/qemu', []));
    expect(missing.problem).toEqual({ what: expect.stringMatching(/not installed/), remedy });
    const broken = await findQemu(() => run('false', []));
    expect(broken.problem).toEqual({ what: expect.stringMatching(/does not run/), remedy });
  });

  test('is not known after it was killed', async () => {
    const killed = () => run('sleep', ['60'], { timeoutMs: 1 });
    await expect(findQemu(killed)).rejects.toThrow(/no end/);
  });
});
