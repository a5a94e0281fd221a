/** The needs of a test that runs real guests, all of it under one random instance, and removed at the end. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, statSync } from 'node:fs';
import { chmod, chown, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MonitorChoice, readSettings } from '@perch/protocol';
import { pino } from 'pino';
import { type DiskPlace, type DiskState, diskKinds } from '../../disk/index.ts';
import { createTap, endProcess, openCgroups, processesOfUid, run } from '../../linux/index.ts';
import { restoreSettings } from '../firecracker/index.ts';
import { monitors } from '../kinds.ts';
import type { IoLimits, VmMonitor, VmSpec } from '../monitor.ts';
import { type Step, testGuest } from './test-guest.ts';

/** The latest kernel that set-up made, undefined where it has not run. */
export function findKernel(): string | undefined {
  const folder = join(readSettings().cacheDir, 'kernel');
  if (!existsSync(folder)) return undefined;
  return readdirSync(folder)
    .map((key) => join(folder, key, 'vmlinux'))
    .filter((path) => existsSync(path))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

/** Real guests need root, QEMU and a kernel. */
export const canRunGuests =
  process.getuid?.() === 0 && existsSync('/usr/bin/qemu-system-x86_64') && findKernel() !== undefined;

/** Size of the disk that each guest sees. */
export const diskBytes = 2 ** 30;

type Change = Partial<VmSpec> & { initramfs: string; from?: DiskState };

export class TestMachine implements AsyncDisposable {
  readonly instance = `t${randomBytes(4).toString('hex')}`;
  readonly log = pino({ level: process.env.PERCH_LOG_LEVEL ?? 'silent' });
  /** In the lab on the disk that was asked for. */
  readonly root = mkdtempSync(join(process.env.PERCH_LAB ? tmpdir() : '/var/tmp', 'perch-vmm-'));
  readonly disks = (
    process.env.PERCH_ROOTFS === 'device-mapper' ? diskKinds['device-mapper'] : diskKinds.qcow2
  ).create(this.instance);
  /** Of each guest, for monitors that are made from then on. */
  limits: IoLimits = {};
  prefetchMib = 64;
  readonly #places: DiskPlace[] = [];
  readonly #uids: number[] = [];
  readonly #namespaces: string[] = [];
  #firstUid = 1_800_000_000 + randomBytes(3).readUIntBE(0, 3) * 16;

  async [Symbol.asyncDispose](): Promise<void> {
    for (const uid of this.#uids) for (const process of processesOfUid(uid)) await endProcess(process);
    for (const place of this.#places) await this.disks.remove(place);
    for (const namespace of this.#namespaces) await run('ip', ['netns', 'delete', namespace]);
    const cgroups = await openCgroups();
    const parent = `perch-${this.instance}`;
    for (const id of await cgroups.list(parent)) await cgroups.remove(`${parent}/${id}`);
    await rm(this.root, { recursive: true });
  }

  /** Another object for the same instance: what a restarted host agent would have. */
  async monitor(choice: MonitorChoice = 'qemu-tcg'): Promise<VmMonitor> {
    const { instance, root: dir, log } = this;
    const restore = restoreSettings.find((setting) => setting === process.env.PERCH_RESTORE) ?? 'auto';
    const prefetch = { dir: join(dir, 'working-sets'), limitMib: this.prefetchMib };
    const { PERCH_PAGER: built } = process.env;
    const pager = built ? await this.shared('perch-pager', built, 0o555) : undefined;
    const limits = this.limits;
    return monitors[choice].create({ instance, version: 'test', restore, dir, pager, prefetch, limits, log });
  }

  /** Everything that a VM is made of, but for the process. `steps` is what its guest does. */
  async spec(id: string, steps: Step[], change: Partial<VmSpec> = {}): Promise<VmSpec> {
    const initramfs = join(this.root, `${id}.cpio`);
    await writeFile(initramfs, testGuest(...steps), { mode: 0o444 });
    return this.specFor(id, { initramfs, ...change });
  }

  async specFor(id: string, change: Change): Promise<VmSpec> {
    const uid = this.#firstUid++;
    this.#uids.push(uid);
    const dir = join(this.root, 'vms', id);
    // As in a data directory: others can pass through, so that only the VM's own directory keeps them out.
    await chmod(this.root, 0o711);
    await mkdir(join(this.root, 'vms'), { mode: 0o711, recursive: true });
    await mkdir(dir, { mode: 0o700 });
    await chown(dir, uid, uid);
    const { from, ...rest } = change;
    const image: DiskState = { format: 'image', image: await this.emptyBase() };
    const place = { id, dir, uid, sizeBytes: diskBytes };
    this.#places.push(place);
    const disk = await this.disks.create(place, from ?? image);
    const network = await this.#network(id);
    return {
      ...{ id, generation: 1, dir, uid, vcpus: 1, memoryMb: 256, disk, network },
      ...{ kernel: await this.shared('vmlinux', findKernel() ?? '') },
      ...rest,
    };
  }

  /** A file that VMs get links of: ours, read only, beside their directories. */
  async shared(name: string, source: string, mode = 0o444): Promise<string> {
    const path = join(this.root, name);
    if (existsSync(path)) return path;
    // Sparse, as the files of a template are.
    await (name.endsWith('.ext4') ? run('cp', ['--sparse=always', source, path]) : copyFile(source, path));
    await chmod(path, mode);
    return path;
  }

  async emptyBase(): Promise<string> {
    const path = join(this.root, 'empty.ext4');
    if (!existsSync(path)) await writeFile(path, Buffer.alloc(2 ** 20), { mode: 0o444 });
    return path;
  }

  async #network(id: string): Promise<VmSpec['network']> {
    const namespace = `perch-${this.instance}-${id}`;
    await run('ip', ['netns', 'add', namespace]);
    this.#namespaces.push(namespace);
    createTap(namespace, 'tap0');
    await run('ip', ['-netns', namespace, 'address', 'add', '169.254.0.22/30', 'dev', 'tap0']);
    await run('ip', ['-netns', namespace, 'link', 'set', 'tap0', 'up']);
    const mac = '02:fc:00:00:00:05';
    // Asked before the guest has its address, the kernel would ask again only a second later.
    const neighbour = ['169.254.0.21', 'lladdr', mac, 'dev', 'tap0', 'nud', 'permanent'];
    await run('ip', ['-netns', namespace, 'neighbour', 'add', ...neighbour]);
    return { namespace, tap: 'tap0', mac };
  }
}
