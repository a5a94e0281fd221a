/** The monitors that a bare guest can have. Each starts it from the state that a sandbox went on from. */
import type { BareFirecracker } from './bare-firecracker.ts';
import type { BareQemu } from './bare-qemu.ts';

/**
 * - `source`: the directory of the sandbox's VM, as its monitor sees it
 * - `shared`: files there that VMs share
 * - `prepare`: makes all else that a directory with these files needs
 * - `spawn`: a process that has the machine, or waits to be given it
 * - `untilRunning`: gives it the machine, and resolves when that runs
 */
export type BareMonitor = BareQemu | BareFirecracker;
