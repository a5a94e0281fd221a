/** The kernel's command line. There is no PCI, and of a keyboard controller only the line that resets the machine. */
import { kernelArguments } from '../kernel-arguments.ts';

/** @param verbose the kernel says what it does */
export function bootArguments(verbose = false): string {
  return [
    kernelArguments({ accelerator: 'kvm', verbose }),
    ...['pci=off', 'i8042.noaux', 'i8042.nomux', 'i8042.dumbkbd', 'no_timer_check', 'tsc=reliable'],
  ].join(' ');
}
