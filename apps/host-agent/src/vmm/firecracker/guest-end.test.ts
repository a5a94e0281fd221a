import { describe, expect, test } from 'vitest';
import { guestEnd, isHalted } from './guest-end.ts';

const ends: [console: string, end: string | undefined, halted: boolean][] = [
  ['good night\n[    1.234567] reboot: System halted\r\n', 'The guest powered off', true],
  ['[   11.234567] reboot: Power down\n', 'The guest powered off', true],
  [
    '[    1.0] reboot: Restarting system\n[    1.1] reboot: machine restart\n',
    'The guest restarted, which ends a sandbox',
    false,
  ],
  [
    '[    0.9] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700\n[    1.0] CPU: 0\n',
    'The guest kernel panicked: Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700',
    false,
  ],
  ['[    1.2] reboot: System halted\nand more\n', undefined, false],
  ['', undefined, false],
];

describe('the end of a guest', () => {
  test.each(ends)('%j', (console, end, halted) => {
    expect(guestEnd(Buffer.from(console))).toBe(end);
    expect(isHalted(Buffer.from(console))).toBe(halted);
  });
});
