import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatEnvironment, parseEnvironment } from './environment-file.ts';

const name = fc.stringMatching(/^[A-Z][A-Z_]{0,20}$/);
const value = fc.string({ unit: 'grapheme' }).filter((text) => !/\p{Cc}/u.test(text));

property.prop([fc.dictionary(name, value, { noNullPrototype: true })])(
  'settings are read as they were written',
  (environment) => {
    expect(parseEnvironment('x.env', formatEnvironment('Settings.', environment))).toEqual(environment);
  },
);

test.each(['a\u2028', 'a\\\u2029'])('a line ends where systemd ends it, and nowhere else: %j', (value) => {
  const environment = { A: value };
  expect(parseEnvironment('x.env', formatEnvironment('Settings.', environment))).toEqual(environment);
  expect(parseEnvironment('x.env', `A=${value}b\n`)).toEqual({ A: `${value.replaceAll('\\', '')}b` });
});

test('what systemd reads in files that people wrote is read as it does', () => {
  const text = `# a comment\n; another\n\nPLAIN=a b\n  SPACED="a \\"b\\" \\n"  \nSINGLE='a\\b'\nESCAPED=a\\ b\nEMPTY=\n`;
  expect(parseEnvironment('x.env', text)).toEqual({
    ...{ PLAIN: 'a b', SPACED: 'a "b" \\n', SINGLE: 'a\\b', ESCAPED: 'a b', EMPTY: '' },
  });
});

test.each(['no setting', 'KEY="hunter2', "KEY=a'b", '9=hunter2'])(
  'a line that is no setting is named and not repeated: %j',
  (line) => {
    const read = () => parseEnvironment('/etc/perch/x.env', `A=1\n${line}\n`);
    expect(read).toThrow('/etc/perch/x.env, line 2, is no setting.');
    expect(read).not.toThrow('hunter2');
  },
);

test('a value that does not fit into a line is refused by its name', () => {
  expect(() => formatEnvironment('', { DATABASE_URL: 'hunter2\n' })).toThrow(
    'DATABASE_URL holds a control character',
  );
  expect(() => formatEnvironment('', { DATABASE_URL: 'hunter2\n' })).not.toThrow('hunter2');
});
