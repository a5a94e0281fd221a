import { stripVTControlCharacters } from 'node:util';
import { expect, test, vi } from 'vitest';
import { CliError } from './errors.ts';
import { exitCodes, reportError, table } from './output.ts';

test('columns are as wide as they need to be', () => {
  const text = table(
    ['ID', 'X'],
    [
      ['a', 'long'],
      ['bcd', ''],
    ],
  );
  expect(stripVTControlCharacters(text).split('\n')).toEqual(['ID   X', 'a    long', 'bcd']);
});

test.each([
  [false, '✗ It failed.\n  Then this failed, too: end failed\n  Mend it.\n'],
  [true, '{"error":{"code":"cli_error","message":"It failed.","remedy":"Mend it.","then":["end failed"]}}\n'],
])('what failed at the end of a failure hides it from nobody (JSON: %s)', (json, expected) => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const error = new SuppressedError(new Error('end failed'), new CliError('It failed.', 'Mend it.'));
  expect(reportError(error, json)).toBe(exitCodes.failed);
  const printed = write.mock.calls.map(([text]) => text).join('');
  write.mockRestore();
  expect(stripVTControlCharacters(printed)).toBe(expected);
});
