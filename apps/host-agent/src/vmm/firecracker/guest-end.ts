/** How a guest ended by itself, as its kernel says it on the console: nobody else is told. Pure. */
import { quoted } from '@perch/node-kit';
import { guestRestarted, lastFrom } from '../process/index.ts';

/** `pr_emerg` of kernel/reboot.c and arch/x86/kernel/reboot.c in Linux 6.12, which `quiet` lets through. */
const said: Readonly<Record<string, string>> = {
  'reboot: System halted': 'The guest powered off',
  'reboot: Power down': 'The guest powered off',
  'reboot: Restarting system': guestRestarted,
  'reboot: machine restart': guestRestarted,
};

/**
 * Of a guest whose monitor is gone.
 * @param console the last of it. Written by the guest: shown bounded and escaped
 */
export function guestEnd(console: Buffer): string | undefined {
  const panic = lastFrom(console, 'Kernel panic');
  return panic === undefined ? said[lastMessage(console)] : `The guest kernel panicked: ${quoted(panic)}`;
}

/**
 * Whether the guest's processors stand still for ever: a machine without power management that powers off only halts,
 * and its monitor waits on. Nothing follows that line.
 */
export function isHalted(console: Buffer): boolean {
  return ['reboot: System halted', 'reboot: Power down'].includes(lastMessage(console));
}

/** The last line, without the time that the kernel puts before it. */
function lastMessage(console: Buffer): string {
  const lines = console.subarray(-1024).toString('latin1').split('\n');
  const last = lines.map((line) => line.trim()).findLast((line) => line !== '') ?? '';
  return last.replace(/^\[ *\d+\.\d+\] /, '');
}
