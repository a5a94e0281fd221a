import { test as property } from '@fast-check/vitest';
import { printable } from '@perch/node-kit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ExitFacts, exitReason } from './exit-reason.ts';

const nothing: ExitFacts = {
  killed: false,
  guest: undefined,
  oomKills: 0,
  process: 'The VM monitor',
  status: undefined,
  log: '',
};
describe('the reason of an exit', () => {
  const cases: [string, Partial<ExitFacts>, RegExp][] = [
    ['our own doing', { killed: true, status: { code: null, signal: 'SIGKILL' } }, /ended by Perch$/],
    ['a signal', { status: { code: null, signal: 'SIGKILL' } }, /by signal 9 \(SIGKILL\)$/],
    ['a denied system call', { status: { code: null, signal: 'SIGSYS' } }, /SIGSYS\): a system call/],
    ['a full disk', { status: { code: null, signal: 'SIGXFSZ' } }, /quota of the disk$/],
    ['a failure', { status: { code: 1, signal: null }, log: 'a\nno such disk\n\n' }, /code 1: no such disk$/],
    ['memory', { oomKills: 1, status: { code: null, signal: 'SIGKILL' } }, /more memory than its limit$/],
    ['a guest that ended by itself', { guest: 'The guest slept', oomKills: 1 }, /^The guest slept$/],
    [
      'another process',
      { process: 'The pager', status: { code: 3, signal: null } },
      /^The pager exited with code 3$/,
    ],
    ['an unknown status', {}, /exit status is not known/],
  ];
  for (const [name, facts, reason] of cases) {
    test(`tells ${name}`, () => expect(exitReason({ ...nothing, ...facts })).toMatch(reason));
  }

  property.prop([fc.string()])('is short and printable whatever the process wrote', (log) => {
    const reason = exitReason({ ...nothing, log });
    expect(printable(reason)).toBe(reason);
    expect(reason.length).toBeLessThan(420);
  });
});
