/** Takes from the machine what it would not have after a restart: everything of a Perch but its files. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { dmNames, isDmLoaded, removeDmDevice } from '../../apps/host-agent/src/linux/index.ts';
import { pids } from '../../packages/node-kit/src/index.ts';
import { eventually } from './eventually.ts';
import { run } from './machine.ts';

/** @param instance undefined when it had none yet */
export async function forget(dataDir: string, instance: string | undefined): Promise<void> {
  await eventually(() => {
    const left = pids().filter((pid) => pid !== process.pid && belongsTo(pid, dataDir));
    for (const pid of left) end(pid);
    return left.length === 0;
  });
  if (!instance) return;
  const mine = `perch-${instance}`;
  for (const name of existsSync('/run/netns') ? readdirSync('/run/netns') : []) {
    if (name.startsWith(`${mine}-`)) await run('ip', ['netns', 'delete', name]);
  }
  const links = JSON.parse((await run('ip', ['-json', 'link'])).stdout) as { ifname: string }[];
  for (const { ifname } of links) {
    // Most have gone with the other end of their pair.
    if (ifname.includes(instance)) await run('ip', ['link', 'delete', ifname]).catch(() => {});
  }
  const { stdout: tables } = await run('nft', ['list', 'tables']);
  for (const table of tables.split('\n').filter((line) => line.includes(instance))) {
    await run('nft', ['delete', ...table.split(' ')]);
  }
  if (isDmLoaded()) await forgetDevices(mine);
  const controllers = ['', ...readdirSync('/sys/fs/cgroup')];
  for (const controller of controllers) await removeCgroups(join('/sys/fs/cgroup', controller, mine));
}

/** It works in the data directory, has files of it open, or was told of it. */
function belongsTo(pid: number, dataDir: string): boolean {
  const within = (path: string) => `${path}/`.startsWith(`${dataDir}/`);
  try {
    const told = ['environ', 'cmdline'].some((file) =>
      readFileSync(`/proc/${pid}/${file}`, 'utf8').includes(dataDir),
    );
    return told || openPaths(pid).some(within);
  } catch {
    return false;
  }
}

function openPaths(pid: number): string[] {
  const descriptors = readdirSync(`/proc/${pid}/fd`).map((fd) => `fd/${fd}`);
  return ['exe', 'cwd', ...descriptors].flatMap((name) => {
    try {
      return [readlinkSync(`/proc/${pid}/${name}`)];
    } catch {
      return [];
    }
  });
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

/** Those of disks before those of the images below them. Loop devices go with them. */
async function forgetDevices(mine: string): Promise<void> {
  await eventually(() => {
    const devices = dmNames().filter((name) => name.startsWith(`${mine}-`));
    for (const name of devices) {
      try {
        removeDmDevice(name);
      } catch {
        // A process that was killed has it open still, or a disk is over it.
      }
    }
    return devices.length === 0;
  });
}

/** A group is removed once the kernel has done with the processes that were killed. */
async function removeCgroups(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroups(join(folder, entry.name));
  }
  await eventually(() => {
    try {
      rmdirSync(folder);
      return true;
    } catch {
      return false;
    }
  });
}
