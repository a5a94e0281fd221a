/** The memory of a guest in the process that is its QEMU: a private mapping of a file in the VM's directory. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { changedPages, fileMappings, type MemoryRun, readMemory, writeMemory } from '../../linux/index.ts';
import { fileNames } from './vm-directory.ts';

export interface GuestMemory {
  /** Pages that differ, or may differ, from the file. While the guest runs, what it says is out of date. */
  changed(): MemoryRun[];
  /** Copies runs into `into`, one after the other. */
  read(runs: readonly MemoryRun[], into: Uint8Array): Promise<void>;
  /** Copies runs from `from`, where they lie one after the other. */
  write(runs: readonly MemoryRun[], from: Uint8Array): Promise<void>;
}

/** @param dir the VM's directory. @throws when the process has no such memory, as one that has ended */
export function guestMemory(pid: number, dir: string): GuestMemory {
  const file = statSync(join(dir, fileNames.memory), { bigint: true });
  const mappings = fileMappings(pid, file);
  if (mappings.length === 0) throw new Error(`Process ${pid} has no memory of a guest`);
  return {
    changed: () => changedPages(pid, mappings),
    read: (runs, into) => readMemory(pid, mappings, runs, into),
    write: (runs, from) => writeMemory(pid, mappings, runs, from),
  };
}
