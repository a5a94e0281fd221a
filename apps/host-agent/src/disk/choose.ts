/** Which disk back ends there are, and which of them this machine gets. */
import type { DiskBackend } from './backend.ts';
import { createQcow2Disks, qcow2Lacks } from './qcow2/index.ts';

interface DiskKind {
  create: () => DiskBackend;
  /** The things that this machine lacks for it, with the remedy: a sentence. Undefined when it has all. */
  lacks: () => string | undefined;
}

/** By the value of `PERCH_ROOTFS`; the first that a machine can have is what `auto` takes. */
export const diskKinds: Readonly<Record<string, DiskKind>> = {
  qcow2: { create: createQcow2Disks, lacks: qcow2Lacks },
};

/**
 * @param wanted a kind, or `auto`
 * @throws Error that says what this machine can have, and what it lacks for the rest
 */
export function chooseDisks(wanted: string, kinds = diskKinds): DiskBackend {
  const lacking: string[] = [];
  const possible: string[] = [];
  for (const [name, { lacks }] of Object.entries(kinds)) {
    const why = lacks();
    if (why === undefined) possible.push(name);
    else lacking.push(`${name}: ${why}`);
  }
  const chosen = wanted === 'auto' ? possible[0] : possible.find((name) => name === wanted);
  const kind = chosen === undefined ? undefined : kinds[chosen];
  if (kind) return kind.create();
  const may = possible.length > 0 ? `it may be auto or ${possible.join(' or ')}` : 'no kind of disk works';
  throw new Error([`PERCH_ROOTFS is ${wanted}; on this machine ${may}.`, ...lacking].join(' '));
}
