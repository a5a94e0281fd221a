import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pathError } from './path-error.ts';

const subject = { sandboxId: 'sbtest', path: '/x' };

test('each reason of the agent has a code of its own meaning, and none is a fault of the agent', () => {
  const source = readFileSync(
    join(import.meta.dirname, '../../../../crates/guest-agent/src/errno.rs'),
    'utf8',
  );
  const body = /pub enum Reason \{([\s\S]*?)\n\}/.exec(source)?.[1] ?? '';
  const variants = [...body.matchAll(/^ {4}([A-Z]\w+),/gm)].map(([, name = '']) => name);
  expect(variants.length).toBeGreaterThan(10);
  const codes = variants.map((name) => {
    const reason = name.replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
    return pathError({ code: 'internal', message: 'so it is', reason }, subject).code;
  });
  expect(codes).not.toContain('guest_protocol');
  expect(new Set(codes).size).toBe(codes.length);
});

test('an agent that names no reason, or an unknown one, is understood by its code', () => {
  const codeOf = (code: string, message = '', reason?: string) =>
    pathError({ code, message, ...(reason === undefined ? {} : { reason }) }, subject).code;
  expect(codeOf('not_found')).toBe('file_not_found');
  expect(codeOf('400', '/x is a directory')).toBe('not_a_file');
  expect(codeOf('invalid_argument', 'path is too long')).toBe('validation_failed');
  expect(codeOf('internal', 'Invalid cross-device link')).toBe('file_io_failed');
  expect(codeOf('409', '', 'constructor')).toBe('file_exists');
  expect(codeOf('teapot')).toBe('guest_protocol');
  expect(codeOf('toString')).toBe('guest_protocol');
});

test('the words of a guest are made printable', () => {
  const error = pathError({ code: 'internal', message: 'a\u001b[31mb', reason: 'io' }, subject);
  expect(error.message).not.toContain('\u001b');
  expect(Object.values(error.details).join()).not.toContain('\u001b');
});
