/**
 * Limits of processes by control groups: one interface over v2, and over v1 where v2 lacks a controller.
 * Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,cpusets,pids}.rst, sched-bwc.rst.
 */
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CgroupHierarchies,
  type Controller,
  findCgroups,
  handOn,
  hasCode,
  ifThere,
} from '@perch/node-kit';

export interface CgroupLimits {
  memoryBytes: number;
  /** CPU time, in CPUs; hundredths count. */
  cpus: number;
  /** Processes and threads. */
  tasks: number;
}

/** Groups are named by a path of two or more parts, `perch-{instance}/{id}`; each call may be repeated. */
export interface Cgroups {
  /** The hierarchies; for the log. */
  readonly description: string;
  /** Limits that this machine cannot set. */
  readonly missing: readonly string[];
  create(path: string, limits: CgroupLimits): Promise<void>;
  /** Moves a process, with what it starts from then on, into the group. */
  add(path: string, pid: number): Promise<void>;
  /** How often the kernel ended a process of the group for want of memory; 0 where it is not known. */
  oomKills(path: string): Promise<number>;
  /** Names below a path. */
  list(path: string): Promise<string[]>;
  /** Removes the group, and its parent when that is empty. Its processes must be gone. */
  remove(path: string): Promise<void>;
}

const cpuPeriodUs = 100_000;
const quotaUs = ({ cpus }: CgroupLimits) => Math.round(cpus * cpuPeriodUs);
/** The kernel may hold a group for a moment after its last process has gone. */
const busyTimeoutMs = 2000;

/** @param mountinfo what /proc/self/mountinfo says */
export async function openCgroups(mountinfo?: string): Promise<Cgroups> {
  const found = await findCgroups(mountinfo);
  return found.v2 === undefined ? v1(found) : v2(found.v2, found);
}

function v2(root: string, { description, missing }: CgroupHierarchies): Cgroups {
  return {
    ...{ description, missing },
    async create(path, limits) {
      const dir = join(root, path);
      await mkdir(dir, { recursive: true });
      await handOn(join(dir, '..'));
      await writeFile(join(dir, 'memory.max'), `${limits.memoryBytes}`);
      await writeFile(join(dir, 'cpu.max'), `${quotaUs(limits)} ${cpuPeriodUs}`);
      await writeFile(join(dir, 'pids.max'), `${limits.tasks}`);
    },
    add: (path, pid) => writeFile(join(root, path, 'cgroup.procs'), `${pid}`),
    oomKills: (path) => readCounter(join(root, path, 'memory.events'), 'oom_kill'),
    list: (path) => listGroups([root], path),
    remove: (path) => removeGroups([root], path),
  };
}

function v1({ v1: mounts, description, missing }: CgroupHierarchies): Cgroups {
  const roots = [...new Set(Object.values(mounts))];
  const set = async (controller: Controller, path: string, file: string, value: number) => {
    const root = mounts[controller];
    if (root !== undefined) await writeFile(join(root, path, file), `${value}`);
  };
  return {
    ...{ description, missing },
    async create(path, limits) {
      for (const root of roots) await mkdir(join(root, path), { recursive: true });
      await set('memory', path, 'memory.limit_in_bytes', limits.memoryBytes);
      await set('cpu', path, 'cpu.cfs_period_us', cpuPeriodUs);
      await set('cpu', path, 'cpu.cfs_quota_us', quotaUs(limits));
      await set('pids', path, 'pids.max', limits.tasks);
    },
    async add(path, pid) {
      for (const root of roots) await writeFile(join(root, path, 'cgroup.procs'), `${pid}`);
    },
    oomKills: async (path) =>
      mounts.memory === undefined
        ? 0
        : readCounter(join(mounts.memory, path, 'memory.oom_control'), 'oom_kill'),
    list: (path) => listGroups(roots, path),
    remove: (path) => removeGroups(roots, path),
  };
}

/** A line `name number` of a flat keyed file. */
async function readCounter(file: string, name: string): Promise<number> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const line = text.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
}

async function listGroups(roots: readonly string[], path: string): Promise<string[]> {
  const names = new Set<string>();
  for (const root of roots) {
    const entries = (await ifThere(readdir(join(root, path), { withFileTypes: true }))) ?? [];
    for (const entry of entries) if (entry.isDirectory()) names.add(entry.name);
  }
  return [...names];
}

/** Each hierarchy is tried, whatever happened in the one before. @throws AggregateError */
async function removeGroups(roots: readonly string[], path: string): Promise<void> {
  const results = await Promise.allSettled(roots.map((root) => removeGroup(join(root, path))));
  const failures = results.filter((result) => result.status === 'rejected').map((result) => result.reason);
  if (failures.length > 0) throw new AggregateError(failures, `The cgroup ${path} cannot be removed`);
}

async function removeGroup(dir: string): Promise<void> {
  const deadline = performance.now() + busyTimeoutMs;
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 2, 100)) {
    try {
      await ifThere(rmdir(dir));
      break;
    } catch (error) {
      if (!hasCode(error, 'EBUSY') || performance.now() > deadline) throw error;
      await sleep(waitMs);
    }
  }
  await rmdir(join(dir, '..')).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT', 'EBUSY', 'ENOTEMPTY')) throw error;
  });
}
