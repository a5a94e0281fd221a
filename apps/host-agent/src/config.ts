/** Settings of the host agent: environment variables, read once, each wrong one named. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  dataPaths,
  instancePattern,
  logLevels,
  type MonitorChoice,
  monitorChoices,
  readSettings,
} from '@perch/protocol';
import { type IoLimits, type RestoreSetting, restoreSettings } from './vmm/index.ts';

export interface Config {
  dataDir: string;
  /** Short id of the data directory, part of every resource name: 6 characters of [a-z0-9]. */
  instance: string;
  network: string;
  logLevel: string;
  kernel: string;
  initramfs: string;
  /** The image `base`, and its SHA-256. */
  baseImage: { path: string; contentId: string };
  /** Slots made ahead. */
  slotPool: number;
  /** Rest of a slot before its number is used again, milliseconds. */
  slotRestMs: number;
  /** Resolver that guests' questions go to; found when absent. */
  dns: string | undefined;
  /** MiB of memory for sandboxes; what the machine has when absent. */
  memoryMb: number | undefined;
  keepDiskMb: number;
  /** Machine shapes of which a booted guest is kept. */
  bootSnapshots: number;
  ready: {
    /** Guests of the default shape that stand ready for a create, whatever is asked for. */
    guests: number;
    /** Guests that stand ready at most, of all kinds. */
    most: number;
    /** More than those that are kept come only while less of the time some process waits for a processor, percent. */
    pressure: number;
  };
  /** States of a sandbox that are kept: what pauses and snapshots of it wrote, the newest. */
  history: number;
  /** Beyond these a state that is paused is merged: memory that has changed, percent of all, and layers of the disk. */
  mergeBounds: { memoryPercent: number; layers: number };
  /** Unprivileged user of the control plane, and its primary group. */
  user: string;
  /** Kind of disk: `auto`, or one that the machine may have. */
  rootfs: string;
  vmm: MonitorChoice | undefined;
  /** How guests get their memory back, of a monitor that has a choice, and the program that serves it. */
  restore: RestoreSetting;
  pager: string | undefined;
  /** MiB of a guest's memory that are put in place before it asks, at most. */
  prefetchMb: number;
  /** Of each guest. */
  limits: IoLimits;
  /** File that says where this process shall end, or wait: for tests. */
  failpoints: string | undefined;
}

const vmmChoices = Object.keys(monitorChoices) as MonitorChoice[];

/** @throws Error that names the variable and what it may be */
export async function readConfig(env: NodeJS.ProcessEnv = process.env): Promise<Config> {
  const { dataDir, network, logLevel } = readSettings(env);
  const vmm = vmmChoices.find((choice) => choice === env.PERCH_VMM);
  if (env.PERCH_VMM && !vmm)
    throw new Error(`PERCH_VMM is ${env.PERCH_VMM}; it may be ${vmmChoices.join(' or ')}.`);
  const restore = restoreSettings.find((setting) => setting === (env.PERCH_RESTORE || restoreSettings[0]));
  if (!restore)
    throw new Error(`PERCH_RESTORE is ${env.PERCH_RESTORE}; it may be ${restoreSettings.join(', ')}.`);
  if (!logLevels.includes(logLevel))
    throw new Error(`PERCH_LOG_LEVEL is ${logLevel}; it may be ${logLevels.join(', ')}.`);
  return {
    dataDir,
    instance: await readInstance(dataDir),
    network,
    logLevel,
    kernel: required(env, 'PERCH_KERNEL'),
    initramfs: required(env, 'PERCH_INITRAMFS'),
    baseImage: {
      path: required(env, 'PERCH_BASE_IMAGE'),
      contentId: required(env, 'PERCH_BASE_IMAGE_ID'),
    },
    slotPool: whole(env, 'PERCH_SLOT_POOL') ?? 4,
    slotRestMs: (whole(env, 'PERCH_SLOT_REST_SEC') ?? 30) * 1000,
    dns: env.PERCH_DNS || undefined,
    memoryMb: whole(env, 'PERCH_MEMORY_MB'),
    keepDiskMb: whole(env, 'PERCH_KEEP_DISK_MB') ?? 1024,
    bootSnapshots: Math.max(1, whole(env, 'PERCH_BOOT_SNAPSHOTS') ?? 8),
    ready: readReady(env),
    history: Math.max(1, whole(env, 'PERCH_HISTORY') ?? 3),
    mergeBounds: {
      memoryPercent: whole(env, 'PERCH_MERGE_PERCENT') ?? 25,
      layers: Math.max(1, whole(env, 'PERCH_MERGE_LAYERS') ?? 8),
    },
    user: env.PERCH_USER || 'perch',
    rootfs: env.PERCH_ROOTFS || 'auto',
    ...{
      vmm,
      restore,
      pager: env.PERCH_PAGER || undefined,
      prefetchMb: whole(env, 'PERCH_PREFETCH_MB') ?? 64,
    },
    limits: readLimits(env),
    failpoints: env.PERCH_FAILPOINTS || undefined,
  };
}

/** 0 is no limit, as it is without a value. */
function readLimits(env: NodeJS.ProcessEnv): IoLimits {
  const limit = (name: string, unit = 1) => {
    const value = whole(env, name) || undefined;
    return value === undefined ? undefined : value * unit;
  };
  return {
    diskBytes: limit('PERCH_DISK_MB_PER_SEC', 2 ** 20),
    diskRequests: limit('PERCH_DISK_REQUESTS_PER_SEC'),
    networkBytes: limit('PERCH_NET_MB_PER_SEC', 2 ** 20),
  };
}

/** Whoever wants none by default wants none by demand either. */
function readReady(env: NodeJS.ProcessEnv): Config['ready'] {
  const guests = whole(env, 'PERCH_READY') ?? 2;
  const most = whole(env, 'PERCH_READY_MAX') ?? (guests > 0 ? 32 : 0);
  return { guests, most: Math.max(guests, most), pressure: whole(env, 'PERCH_READY_PRESSURE') ?? 80 };
}

async function readInstance(dataDir: string): Promise<string> {
  const { instance: file } = dataPaths(dataDir);
  const text = (await readFile(file, 'utf8')).trim();
  if (!new RegExp(instancePattern).test(text)) throw new Error(`${file} must hold 6 characters of [a-z0-9].`);
  return text;
}

function required(env: NodeJS.ProcessEnv, name: string): string {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set. Start the host agent with \`perch up\`.`);
  return value;
}

function whole(env: NodeJS.ProcessEnv, name: string): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${name} is ${text}; it must be a whole number.`);
  return Number(text);
}

/** Paths of the host agent's own state. */
export function hostPaths(dataDir: string) {
  const { host, hostSocket, run } = dataPaths(dataDir);
  return {
    host,
    hostSocket,
    run,
    journal: join(host, 'journal.db'),
    vms: join(host, 'vms'),
    boot: join(host, 'boot'),
    probes: { qemu: join(host, 'probe.json'), firecracker: join(host, 'probe-firecracker.json') },
    workingSets: join(host, 'working-sets'),
    sandboxes: join(dataDir, 'sandboxes'),
    bootSnapshots: join(dataDir, 'boot-snapshots'),
    snapshots: join(dataDir, 'snapshots'),
    images: join(dataDir, 'images'),
  };
}
