/** The things of an instance on this machine, told without any daemon: for the leak check. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pids, run } from '@perch/node-kit';
import { dataPaths, type Settings } from '@perch/protocol';
import { readInstance } from './layout.ts';

export interface Leak {
  kind:
    | 'process'
    | 'namespace'
    | 'link'
    | 'nft table'
    | 'cgroup'
    | 'directory'
    | 'snapshot'
    | 'disk device'
    | 'loop device';
  name: string;
}

/** Everything that carries the instance's name, or that works in its data directory. */
export async function leaks(settings: Settings): Promise<Leak[]> {
  const instance = await readInstance(settings.dataDir);
  if (instance === undefined) return [];
  const found: Leak[] = [];
  const add = (kind: Leak['kind'], names: Iterable<string>) => {
    for (const name of names) found.push({ kind, name });
  };
  add('process', processes(settings.dataDir, instance));
  add(
    'namespace',
    list('/run/netns').filter((name) => name.startsWith(`perch-${instance}-`)),
  );
  add('link', await links(instance));
  add('nft table', await tables(instance));
  add('cgroup', cgroups('/sys/fs/cgroup', `perch-${instance}`));
  add('directory', list(join(dataPaths(settings.dataDir).host, 'vms')));
  add('snapshot', list(join(settings.dataDir, 'sandboxes')));
  add('disk device', diskDevices(instance));
  add('loop device', await loops(settings.dataDir));
  return found;
}

/** A daemon's title hides its command line, and not the Node of this data directory that runs it. */
function processes(dataDir: string, instance: string): string[] {
  return pids()
    .filter((pid) => pid !== process.pid)
    .flatMap((pid) => {
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
      const texts = [command, link(`/proc/${pid}/exe`)];
      const ours = texts.some((text) => text.includes(`${dataDir}/`) || text.includes(`perch-${instance}`));
      return ours ? [`${pid} ${command.slice(0, 120)}`] : [];
    });
}

/** Host side of the slots: `pch{instance}-{n}`, see the network layer. */
async function links(instance: string): Promise<string[]> {
  const { stdout } = await run('ip', ['-json', 'link']);
  const all = JSON.parse(stdout) as { ifname: string }[];
  return all.map(({ ifname }) => ifname).filter((name) => name.includes(instance));
}

async function tables(instance: string): Promise<string[]> {
  const { stdout } = await run('nft', ['list', 'tables']);
  return stdout.split('\n').filter((line) => line.includes(instance));
}

/** Of device-mapper: `perch-{instance}-{VM}`, and `…-base.…` for the images below them. */
function diskDevices(instance: string): string[] {
  return list('/sys/block')
    .map((device) => read(`/sys/block/${device}/dm/name`).trim())
    .filter((name) => name.startsWith(`perch-${instance}-`));
}

async function loops(dataDir: string): Promise<string[]> {
  const { stdout } = await run('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE']);
  return stdout.split('\n').filter((line) => line.includes(`${dataDir}/`));
}

function cgroups(root: string, name: string): string[] {
  return list(root)
    .flatMap((controller) => [join(root, controller, name), join(root, name)])
    .filter((path, index, all) => existsSync(path) && all.indexOf(path) === index);
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
