/** The control group hierarchies that can limit the processes of a sandbox. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CgroupMounts, type Controller, controllers, parseCgroupMounts } from './cgroup-mounts.ts';

export type { Controller };

export interface CgroupHierarchies {
  /** As a person says it. */
  description: 'cgroup v2' | 'cgroup v1' | 'no cgroups';
  /** Root of the one of version 2, when it has all controllers and hands them on. */
  v2: string | undefined;
  /** Else the roots of version 1, by controller. */
  v1: CgroupMounts['v1'];
  /** Controllers that none of them has: their limits cannot be set. */
  missing: readonly Controller[];
}

/**
 * Version 2 where it will do. Its controllers are handed on to groups below its root, as they are for a sandbox:
 * nothing else tells whether they can be.
 * @param mountinfo the text of /proc/self/mountinfo
 */
export async function findCgroups(mountinfo?: string): Promise<CgroupHierarchies> {
  const { v1, v2 } = parseCgroupMounts(mountinfo ?? (await readFile('/proc/self/mountinfo', 'utf8')));
  if (v2 !== undefined && (await handsOnAll(v2)))
    return { description: 'cgroup v2', v2, v1: {}, missing: [] };
  const missing = controllers.filter((name) => v1[name] === undefined);
  return {
    description: missing.length === controllers.length ? 'no cgroups' : 'cgroup v1',
    ...{ v2: undefined, v1, missing },
  };
}

async function handsOnAll(root: string): Promise<boolean> {
  const available = (await readFile(join(root, 'cgroup.controllers'), 'utf8')).trim().split(' ');
  if (!controllers.every((name) => available.includes(name))) return false;
  return handOn(root).then(
    () => true,
    () => false, // EBUSY: a container whose own processes sit in the root that it sees
  );
}

/** Makes the controllers usable one level down, in a hierarchy of version 2. */
export function handOn(dir: string): Promise<void> {
  return writeFile(join(dir, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '));
}
