/** The command line of the guest's kernel. Source: admin-guide/kernel-parameters.rst of Linux 6.12. */
import type { Accelerator } from '@perch/protocol';

export interface KernelBoot {
  accelerator: Accelerator;
  /** Rate of the host's time stamp counter. */
  tscKhz?: number | undefined;
  /** Show what the kernel does; else warnings and worse. */
  verbose?: boolean;
}

export function kernelArguments(boot: KernelBoot): string {
  return [
    'console=ttyS0',
    boot.verbose ? 'loglevel=7' : 'quiet',
    // A panic restarts the machine, which QEMU turns into its end; by a triple fault, as microvm has no
    // keyboard controller to ask and no reset that ACPI could name.
    ...['panic=-1', 'reboot=t'],
    ...startup,
    // The host gives the entropy; there is nothing to wait for.
    'random.trust_cpu=on',
    ...(boot.accelerator === 'tcg' ? [...timeArguments(boot.tscKhz), withoutSpeculation] : []),
  ].join(' ');
}

/**
 * Work of a distribution's kernel at its start that a guest with one tenant has no use for. Together a fifth of
 * the boot under TCG: self-tests of ciphers, zeroing of every page that is already zero, labels of security
 * modules that nothing in the guest configures, a search for serial ports. At each switch of tasks: a record of who
 * waited for what. Every few seconds: a look for processors that hang, which to a guest that was held up are all
 * of them. At each page of a pipe: whose it is, which is a quarter of what output of a command costs, for a limit that
 * no control group of Perch's has.
 */
const startup = [
  ...['init_on_alloc=0', 'cryptomgr.notests', 'lsm=landlock', '8250.nr_uarts=1'],
  ...['psi=0', 'nowatchdog', 'cgroup.memory=nokmem'],
];

/**
 * An emulated processor does not speculate by itself, and each guard of the guest's kernel against that is code to be
 * translated: above all the detours of indirect jumps.
 */
const withoutSpeculation = 'mitigations=off';

/**
 * Under TCG the guest reads the host's counter, but every clock that it could calibrate that with is itself
 * emulated, with jitter: calibration fails or loops on a busy host. With KVM the kernel has kvm-clock.
 */
function timeArguments(tscKhz: number | undefined): string[] {
  return [...(tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`]), 'tsc=reliable'];
}
