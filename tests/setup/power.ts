/** A file system of a test's own, which can be full, and loses in a power cut what was not synced. */
import { chmod, mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ioctl } from '../../apps/host-agent/src/linux/index.ts';
import { eventually } from './eventually.ts';
import { run } from './machine.ts';

/** Sparse: only what is written takes room. */
const defaultBytes = 32 * 2 ** 30;
/** linux/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH. Those of XFS are the same. */
const shutdown = 0x8004587d;
const withoutFlush = 2;

export interface PowerDiskOptions {
  bytes?: number;
  type?: 'ext4' | 'xfs';
}

export class PowerDisk implements AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  readonly #folder: string;
  readonly #image: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#image = join(folder, 'disk');
    this.path = join(folder, 'on');
  }

  static async make({ bytes = defaultBytes, type = 'ext4' }: PowerDiskOptions = {}): Promise<PowerDisk> {
    const folder = await mkdtemp(join(tmpdir(), 'perch-power-'));
    await chmod(folder, 0o755);
    const disk = new PowerDisk(folder);
    await using image = await open(disk.#image, 'wx');
    await image.truncate(bytes);
    await mkdir(disk.path);
    await run(`mkfs.${type}`, ['-q', type === 'xfs' ? '-f' : '-F', disk.#image]);
    await disk.#mount();
    return disk;
  }

  /**
   * From now on nothing gets to the disk, and nothing can be read. Unsynced bytes are lost as they are when
   * the power fails, though not in parts: the kernel drops its dirty pages and the journal's running transaction.
   */
  async cut(): Promise<void> {
    await using root = await open(this.path);
    const flags = Buffer.alloc(4);
    flags.writeUInt32LE(withoutFlush);
    ioctl('EXT4_IOC_SHUTDOWN', root.fd, shutdown, flags);
  }

  /** Nobody may have anything open there. The journal is replayed. */
  async restore(): Promise<void> {
    await this.#unmount();
    await this.#mount();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#unmount();
    await rm(this.#folder, { recursive: true });
  }

  async #mount(): Promise<void> {
    await run('mount', ['-o', 'loop', this.#image, this.path]);
  }

  /** The loop device goes by itself, once the last process that was killed has closed its files. */
  async #unmount(): Promise<void> {
    await eventually(() =>
      run('umount', [this.path]).then(
        () => true,
        () => false,
      ),
    );
    await eventually(async () => (await run('losetup', ['--associated', this.#image])).stdout === '');
  }
}
