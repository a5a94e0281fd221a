/** A Perch on its machine as root sees it, told by /proc, /sys and the kernel alone. */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { ofProcess, pids, readStat } from '../../packages/node-kit/src/index.ts';
import { dataPaths, type HostSandboxList } from '../../packages/protocol/src/index.ts';

export const run = promisify(execFile);

export const vmsDir = (dataDir: string): string => join(dataPaths(dataDir).host, 'vms');

/**
 * Pids of the VM monitors of a Perch by sandbox: the processes that work in a sandbox's directory, or in the jail there,
 * whose path is another one in it.
 */
export function monitors(dataDir: string): Map<string, number> {
  const prefix = `${vmsDir(dataDir)}/`;
  const jails = jailsBelow(vmsDir(dataDir));
  const found = new Map<string, number>();
  for (const pid of pids()) {
    const cwd = link(`/proc/${pid}/cwd`);
    const name = cwd?.startsWith(prefix) ? cwd.slice(prefix.length) : jails.get(inode(`/proc/${pid}/cwd`));
    // What serves a monitor works beside its jail.
    if (link(`/proc/${pid}/exe`)?.endsWith('/perch-pager')) continue;
    if (name !== undefined && processState(pid) !== 'Z') found.set(name, pid);
  }
  return found;
}

/** Names of VMs by the roots of their jails. */
function jailsBelow(dir: string): Map<string | undefined, string> {
  const names = existsSync(dir) ? readdirSync(dir) : [];
  return new Map(
    names.flatMap((name) => {
      const root = inode(join(dir, name, 'firecracker', name, 'root'));
      return root === undefined ? [] : [[root, name] as const];
    }),
  );
}

/** Undefined when it is not there. */
function inode(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** @throws Error when the sandbox has no monitor */
export function monitorOf(dataDir: string, id: string): number {
  const pid = monitors(dataDir).get(id);
  if (pid === undefined) throw new Error(`no VM monitor works in ${join(vmsDir(dataDir), id)}`);
  return pid;
}

/** CPU time of a process, ticks; NaN when there is none. */
function cpuTicksOf(pid: number): number {
  return readStat(pid)?.cpuTicks ?? Number.NaN;
}

/** Whether a process is there and has needed no CPU for so long: others that have it keep none of its threads waiting. */
export async function needsNoCpu(pid: number, ms: number): Promise<boolean> {
  const ticks = cpuTicksOf(pid);
  await sleep(ms);
  const threads = ofProcess(() => readdirSync(`/proc/${pid}/task`)) ?? [];
  return cpuTicksOf(pid) === ticks && threads.every((thread) => processState(Number(thread)) !== 'R');
}

/** Pid of a daemon of this data directory as it is now; undefined when it does not run. */
export function daemonPid(dataDir: string, name: 'perch-host' | 'perchd'): number | undefined {
  return pids().find(
    (pid) => link(`/proc/${pid}/exe`)?.startsWith(`${dataPaths(dataDir).bin}/`) && commandLine(pid) === name,
  );
}

/** Pid of the embedded PostgreSQL's postmaster, from its pid file. */
export function postmasterPid(dataDir: string): number | undefined {
  const file = join(dataPaths(dataDir).control, 'postgres/postmaster.pid');
  const pid = existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) : undefined;
  return pid !== undefined && link(`/proc/${pid}/exe`)?.endsWith('/postgres') ? pid : undefined;
}

/** With spaces between arguments; '' when the process is gone. */
export function commandLine(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
}

/** A field of /proc/PID/status. */
export function statusField(pid: number, field: string): string | undefined {
  return new RegExp(`^${field}:[ \\t]*(.*)$`, 'm').exec(read(`/proc/${pid}/status`))?.[1];
}

/** Paths of what a process has open, or mapped; none when it is gone. */
export function openFilesOf(pid: number): string[] {
  return ['fd', 'map_files'].flatMap((folder) => {
    try {
      return readdirSync(`/proc/${pid}/${folder}`).flatMap(
        (name) => link(`/proc/${pid}/${folder}/${name}`) ?? [],
      );
    } catch {
      return [];
    }
  });
}

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Namespaces of the slots of an instance. */
export function slotNamespaces(instance: string): string[] {
  return readdirSync('/run/netns').filter((name) => name.startsWith(`perch-${instance}-`));
}

/** Where the cgroups of an instance's sandboxes are: one folder, or one for each controller. */
export function cgroupFolders(instance: string): string[] {
  const root = '/sys/fs/cgroup';
  return [root, ...readdirSync(root).map((name) => join(root, name))]
    .map((folder) => join(folder, `perch-${instance}`))
    .filter((folder) => existsSync(folder));
}

/** Sandboxes of an instance that have a cgroup. */
export function cgroups(instance: string): string[] {
  const names = cgroupFolders(instance).flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name),
  );
  return [...new Set(names)].sort();
}

export function vmDirectories(dataDir: string): string[] {
  return readdirSync(vmsDir(dataDir)).sort();
}

/** Sandboxes of an instance as each kind of resource names them, and its slots. */
export function footprint({ dataDir, instance }: { dataDir: string; instance: string }) {
  return {
    monitors: [...monitors(dataDir).keys()].sort(),
    cgroups: cgroups(instance),
    directories: vmDirectories(dataDir),
    slots: slotNamespaces(instance).length,
  };
}

/** Slots that an instance keeps ready when nothing is set. */
export const slotPool = 4;

/** The footprint of an instance that holds these sandboxes and no more. */
export function footprintOf(...ids: string[]): ReturnType<typeof footprint> {
  const sorted = ids.toSorted();
  return { monitors: sorted, cgroups: sorted, directories: sorted, slots: slotPool + ids.length };
}

export function readInstance(dataDir: string): string {
  return readFileSync(dataPaths(dataDir).instance, 'utf8').trim();
}

/** The content of the host agent's journal, by its API. */
export async function hostSandboxes(dataDir: string): Promise<HostSandboxList['items']> {
  const { promise, resolve, reject } = Promise.withResolvers<HostSandboxList>();
  const call = request({ socketPath: dataPaths(dataDir).hostSocket, path: '/v1/sandboxes' });
  call.once('error', reject);
  call.once('response', (answer) => (json(answer) as Promise<HostSandboxList>).then(resolve, reject));
  call.end();
  return (await promise).items;
}

/** Its letter in /proc/PID/stat; undefined when the process is gone. */
export function processState(pid: number): string | undefined {
  return readStat(pid)?.state;
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
