import { expect, test } from 'vitest';
import { Notices } from './notices.ts';

test('the first notices of a kind are told, escaped and cut, and the others counted', () => {
  let said = '';
  {
    using notices = new Notices((line) => {
      said += line;
    });
    for (let at = 0; at < 100_000; at++) notices.tell('Left out', `/s/\u001b[2J\n${at}${'x'.repeat(8000)}`);
    for (let at = 0; at < 20; at++) notices.tell('Without its time', `${at}`);
  }
  const lines = said.trimEnd().split('\n');
  expect(lines).toHaveLength(41);
  expect(lines[0]).toMatch(/^Left out: \/s\/\\u001b\[2J\\u000a0x+…$/);
  expect(lines[40]).toBe('Left out: 99980 more');
  expect(lines[39]).toBe('Without its time: 19');
  expect(said.length).toBeLessThan(25_000);
});
