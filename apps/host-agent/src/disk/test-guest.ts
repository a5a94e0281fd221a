/** For tests of disks: who writes to one as a guest does, and where one lies. */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskSpec, DiskUser, ToolPlace } from './backend.ts';
import type { DiskFile, DiskState, FileDisk, VmDisk } from './disk.ts';

export const MiB = 2 ** 20;
/** Nobody's on the machine, whatever else is tested at the same time: tools end what runs as their user. */
export const nobodysUid = () => 1_700_000_000 + randomInt(2 ** 24);

/** The monitor of a guest, of which there is the disk only. */
export class TestGuest implements DiskUser {
  #disk: VmDisk;

  constructor(disk: VmDisk) {
    this.#disk = disk;
  }

  get disk(): VmDisk {
    return this.#disk;
  }

  async prepareSwitch(next: FileDisk): Promise<() => Promise<void>> {
    return async () => {
      if (this.#disk.kind !== 'file') throw new Error('Only files are changed for others');
      const { path, format, below } = this.#disk;
      this.#disk = { ...next, below: [...below, { path, format }] };
    };
  }

  /** @param commands of qemu-io, such as `write -P 1 0 1M` */
  does(...commands: string[]): void {
    execFileSync('qemu-io', [...commands.flatMap((one) => ['-c', one]), filenameOf(this.#disk, true)]);
  }

  /** Whether a mebibyte consists of this byte. */
  has(byte: number, atMiB: number): boolean {
    const command = `read -P ${byte} ${atMiB}M 1M`;
    const said = execFileSync('qemu-io', ['-r', '-c', command, filenameOf(this.#disk, false)]);
    return !String(said).includes('verification failed');
  }
}

/** Whether two disks have the same bytes. */
export function areSame(one: VmDisk, other: VmDisk): boolean {
  const names = [filenameOf(one, false), filenameOf(other, false)];
  return execFileSync('qemu-img', ['compare', ...names], { encoding: 'utf8' }).includes('identical');
}

/** As a file that QEMU's tools open: what a monitor is told. */
export function filenameOf(disk: VmDisk, writable: boolean): string {
  if (disk.kind === 'block') {
    const file = { driver: 'host_device', filename: disk.path };
    // As a monitor: it is told of an error when it writes, not when the page cache is written back.
    return json({ driver: 'raw', discard: 'unmap', cache: { direct: true }, file });
  }
  return json(nodeOf(disk, disk.below, writable));
}

const json = (image: object) => `json:${JSON.stringify(image)}`;

function nodeOf({ path, format }: DiskFile, below: readonly DiskFile[], writable: boolean): object {
  const backing = below.at(-1);
  return {
    ...{ driver: format, 'read-only': !writable, discard: 'unmap' },
    file: { driver: 'file', filename: path, 'read-only': !writable, locking: 'off' },
    ...(backing ? { backing: nodeOf(backing, below.slice(0, -1), false) } : {}),
  };
}

/** The files of one test, removed with it. */
export class DiskPlaces implements Disposable {
  readonly root: string;
  readonly sizeBytes: number;
  readonly #uid = nobodysUid();
  /** 8 MiB of the byte 97. */
  readonly image: string;

  constructor(within = tmpdir(), sizeBytes = 64 * MiB) {
    this.sizeBytes = sizeBytes;
    this.root = mkdtempSync(join(within, 'perch-disk-'));
    this.image = this.file('image.ext4', Buffer.alloc(8 * MiB, 'a'));
  }

  /** A file as states have them. */
  file(name: string, bytes: string | Uint8Array, mode = 0o444): string {
    const path = join(this.root, name);
    writeFileSync(path, bytes, { mode });
    return path;
  }

  get fromImage(): DiskState {
    return { format: 'image', image: this.image };
  }

  /** A place for the disk of a VM. */
  vm(id: string): DiskSpec {
    return { id, dir: this.#directory(`vm-${id}`), uid: this.#uid, sizeBytes: this.sizeBytes };
  }

  tool(name: string): ToolPlace {
    return {
      ...{ dir: this.#directory(name), uid: this.#uid, sizeBytes: this.sizeBytes, timeoutMs: 60_000 },
      admit: async () => {},
    };
  }

  #directory(name: string): string {
    const dir = join(this.root, name);
    mkdirSync(dir, { mode: 0o700 });
    if (process.getuid?.() === 0) chownSync(dir, this.#uid, this.#uid);
    return dir;
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true });
  }
}
