import { test as property } from '@fast-check/vitest';
import { printable } from '@perch/node-kit';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { guestEnd } from './guest-end.ts';

const panic = Buffer.from(
  '[1.0] Kernel panic - not syncing: one\r\n[2.0] Kernel panic - not syncing: \x1b[31mtwo\r\nmore',
);
const silent = Buffer.alloc(0);

test.each<[string, string | undefined, Buffer, RegExp]>([
  ['a power off', 'guest-shutdown', panic, /^The guest powered off$/],
  ['a restart', 'guest-reset', silent, /^The guest restarted/],
  ['a panic', 'guest-reset', panic, /panicked: .*: \\u001b\[31mtwo$/],
  ['a panic that nobody saw', undefined, panic, /panicked/],
  ['an end that nobody saw', undefined, silent, /powered off or restarted$/],
  ['an end for another reason', 'host-qmp-quit', silent, /told to stop \(host-qmp-quit\)$/],
])('%s is told', (_, reason, console, sentence) => {
  expect(guestEnd(reason, console)).toMatch(sentence);
});

property.prop([fc.uint8Array({ maxLength: 5000 })])(
  'the sentence is short and printable whatever the guest wrote',
  (bytes) => {
    const reason = guestEnd('guest-reset', Buffer.concat([Buffer.from('Kernel panic'), bytes]));
    expect(printable(reason)).toBe(reason);
    expect(reason.length).toBeLessThan(420);
  },
);
