import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConsoleTail } from './console.ts';
import { type ExitFacts, exitReason } from './exit-reason.ts';

const nothing: ExitFacts = {
  killed: false,
  shutdown: undefined,
  oomKills: 0,
  status: undefined,
  console: Buffer.alloc(0),
  log: '',
};
const panic = Buffer.from(
  '[1.0] Kernel panic - not syncing: one\r\n[2.0] Kernel panic - not syncing: \x1b[31mtwo\r\nmore',
);

describe('the reason of an exit', () => {
  const cases: [string, Partial<ExitFacts>, RegExp][] = [
    ['our own doing', { killed: true, status: { code: null, signal: 'SIGKILL' } }, /ended by Perch$/],
    ['a signal', { status: { code: null, signal: 'SIGKILL' } }, /by signal 9 \(SIGKILL\)$/],
    ['a denied system call', { status: { code: null, signal: 'SIGSYS' } }, /SIGSYS\): a system call/],
    ['a full disk', { status: { code: null, signal: 'SIGXFSZ' } }, /quota of the disk$/],
    ['a failure', { status: { code: 1, signal: null }, log: 'a\nno such disk\n\n' }, /code 1: no such disk$/],
    ['memory', { oomKills: 1, status: { code: null, signal: 'SIGKILL' } }, /more memory than its limit$/],
    ['a power off', { shutdown: { reason: 'guest-shutdown' }, console: panic }, /^The guest powered off$/],
    ['a restart', { shutdown: { reason: 'guest-reset' } }, /^The guest restarted/],
    ['a panic', { shutdown: { reason: 'guest-reset' }, console: panic }, /panicked: .*: \\x1b\[31mtwo$/],
    ['a panic that nobody saw', { shutdown: { reason: undefined }, console: panic }, /panicked/],
    ['an end that nobody saw', { shutdown: { reason: undefined } }, /powered off or restarted$/],
    ['an unknown status', {}, /exit status is not known/],
  ];
  for (const [name, facts, reason] of cases) {
    test(`tells ${name}`, () => expect(exitReason({ ...nothing, ...facts })).toMatch(reason));
  }

  property.prop([fc.uint8Array({ maxLength: 5000 }), fc.string()])(
    'is short and printable whatever the guest and QEMU wrote',
    (bytes, log) => {
      const console = Buffer.concat([Buffer.from('Kernel panic'), bytes]);
      for (const facts of [{ shutdown: { reason: 'guest-reset' }, console }, { log }]) {
        const reason = exitReason({ ...nothing, ...facts });
        expect(reason).toMatch(/^[ -~]+…?$/);
        expect(reason.length).toBeLessThan(320);
      }
    },
  );
});

property.prop([fc.array(fc.uint8Array({ maxLength: 30 })), fc.integer({ min: 1, max: 50 })])(
  'a console keeps the last bytes, and no more than its limit',
  (chunks, limit) => {
    const tail = new ConsoleTail(limit);
    for (const chunk of chunks) tail.append(Buffer.from(chunk));
    expect(tail.last()).toEqual(Buffer.concat(chunks).subarray(-limit));
  },
);
