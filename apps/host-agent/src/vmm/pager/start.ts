/**
 * Starts the pager of a VM that is about to go on: as the VM's user, with no file but what it inherits, in the VM's
 * directory, by which it is found again. Its memory of who it serves is the socket alone.
 */
import { closeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { listenAt, spawnConfined } from '../../linux/index.ts';
import type { BuildId, MemoryImage } from '../../snapshot/index.ts';
import type { VmSpec } from '../monitor.ts';
import { identified, linkReadable, removeFiles, type Spawned } from '../process/index.ts';
import { configurationOf, type PagerFiles } from './configuration.ts';
import { metricsBytes, type PagerCounts, readPagerCounts } from './counts.ts';
import type { WorkingSets } from './working-sets.ts';

/** In a directory that the monitor sees. */
export const pagerSocket = 'pager.sock';
/** In the VM's directory. */
const files = {
  program: 'perch-pager',
  metrics: 'pager.metrics',
  workingSet: 'pager.working-set',
} as const;
/** It writes its metrics, and a working set of 256 KiB. */
const maxFileBytes = 2 ** 20;
/** Beside those that it inherits. */
const ownDescriptors = 64;

export interface PagerSpec extends Pick<VmSpec, 'dir' | 'uid' | 'network'> {
  /** Root-owned, 0555, on the file system of `dir`. */
  program: string;
  image: MemoryImage;
  socketDir: string;
  /** Descriptor for stderr, which stays the caller's. */
  log: number;
  /** Processes and threads that the user can have. */
  maxTasks: number;
  /** Without them none is recorded, and nothing is put in place ahead. */
  workingSets: WorkingSets | undefined;
}

export type StartedPager = Spawned;

/** @throws when it cannot be started. A later failure shows as an exit. `clearPager` removes its files either way */
export async function startPager(to: PagerSpec): Promise<StartedPager> {
  const { image, dir, uid, network } = to;
  await linkReadable(to.program, join(dir, files.program));
  await using opened = new AsyncDisposableStack();
  const header = opened.use(await open(image.headerFile)).fd;
  const memfiles = new Map<BuildId, number>();
  for (const build of image.header.mapping.builds) {
    memfiles.set(build, opened.use(await open(image.memfileOf(build))).fd);
  }
  const metrics = opened.use(await open(join(dir, files.metrics), 'wx+', 0o600));
  await metrics.truncate(metricsBytes);
  const { record, prefetch } = await openWorkingSets(to, opened);
  const socket = listenAt(to.socketDir, pagerSocket, uid);
  opened.defer(() => closeSync(socket));
  const { descriptors, text } = configurationOf({
    ...{ header, memfiles, socket, metrics: metrics.fd, record, prefetch },
  });
  const confinement = {
    ...{ namespace: network.namespace, uid, maxFileBytes, maxTasks: to.maxTasks },
    ...{ cwd: dir, stderr: to.log, input: text, descriptors },
    maxOpen: Math.max(1024, descriptors.length + ownDescriptors),
  };
  return await identified(spawnConfined(confinement, [`./${files.program}`]));
}

async function openWorkingSets(
  { dir, image, workingSets }: PagerSpec,
  opened: AsyncDisposableStack,
): Promise<Pick<PagerFiles, 'record' | 'prefetch'>> {
  if (!workingSets) return {};
  const record = opened.use(await open(join(dir, files.workingSet), 'wx+', 0o600)).fd;
  const earlier = await workingSets.open(image.header.build);
  if (!earlier) return { record };
  return { record, prefetch: { from: opened.use(earlier).fd, limitMib: workingSets.limitMib } };
}

/** Has the next guest that goes on from this state get first what the one in this directory has asked for. */
export async function keepWorkingSet(sets: WorkingSets, build: BuildId, dir: string): Promise<void> {
  await sets.keep(build, join(dir, files.workingSet));
}

/** @param dir the VM's. @returns undefined where there is no pager */
export function countsOfPager(dir: string): Promise<PagerCounts | undefined> {
  return readPagerCounts(join(dir, files.metrics));
}

/** The pager must be gone. No error where there was none. */
export async function clearPager(dir: string): Promise<void> {
  await removeFiles(dir, Object.values(files));
}
