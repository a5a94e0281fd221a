/**
 * A directory that others made, and may still be changing. Nothing is followed out of it: files are looked up in
 * the directory that was opened, and only regular ones are read.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, opendir } from 'node:fs/promises';
import { cloneFile, dataRuns } from '../linux/index.ts';
import { SnapshotDamaged } from './damaged.ts';
import { openRegular, readBounded, readFully, writeFully } from './files.ts';
import { isSnapshotFile } from './layout.ts';
import { maxBuilds } from './mapping-builder.ts';

/** A memfile and a layer of every build that there can be, and the files of one name. */
const maxFiles = 2 * maxBuilds + 16;
const copyBytes = 4 * 2 ** 20;

export class ForeignDirectory implements AsyncDisposable {
  /** Its files by name, with the length in bytes that each had when the directory was opened. */
  readonly lengths: ReadonlyMap<string, number>;
  /** Bytes that each occupied then. */
  readonly occupied: ReadonlyMap<string, number>;
  readonly #dir: FileHandle;

  private constructor(
    dir: FileHandle,
    { lengths, occupied }: Pick<ForeignDirectory, 'lengths' | 'occupied'>,
  ) {
    this.#dir = dir;
    this.lengths = lengths;
    this.occupied = occupied;
  }

  /**
   * @param path absolute
   * @throws SnapshotDamaged when it is no directory, or holds anything but regular files of a snapshot
   */
  static async open(path: string): Promise<ForeignDirectory> {
    const dir = await openDirectory(path);
    try {
      const lengths = new Map<string, number>();
      const occupied = new Map<string, number>();
      for await (const { name } of await opendir(inside(dir))) {
        if (!isSnapshotFile(name)) {
          throw new SnapshotDamaged(JSON.stringify(name), 'is no file of a snapshot; move it elsewhere');
        }
        const stat = await lstat(inside(dir, name));
        if (!stat.isFile()) throw new SnapshotDamaged(name, 'is not a regular file');
        lengths.set(name, stat.size);
        occupied.set(name, stat.blocks * 512);
        if (lengths.size > maxFiles) throw damagedDirectory(`holds more than ${maxFiles} files`);
      }
      return new ForeignDirectory(dir, { lengths, occupied });
    } catch (error) {
      await dir.close();
      throw error;
    }
  }

  has(name: string): boolean {
    return this.lengths.has(name);
  }

  /** @throws SnapshotDamaged when it is not there */
  length(name: string): number {
    const length = this.lengths.get(name);
    if (length === undefined) throw new SnapshotDamaged(name, 'is missing');
    return length;
  }

  /** @throws SnapshotDamaged when it is not there, or no regular file */
  open(name: string): Promise<FileHandle> {
    return openRegular(inside(this.#dir, name), name);
  }

  /** The whole of a small file. @throws SnapshotDamaged as `open`, and for more than `maxBytes` */
  read(name: string, maxBytes: number): Promise<Buffer> {
    return readBounded(inside(this.#dir, name), name, maxBytes);
  }

  /**
   * Copies a file to a path where there is none: by shared blocks where the file systems can, else its data, with
   * holes for its holes.
   * @throws SnapshotDamaged as `open`, and when it has another length than it had
   */
  async copy(name: string, target: string, mode: number): Promise<void> {
    const length = this.length(name);
    await using from = await this.open(name);
    await using to = await open(target, 'wx', 0o600);
    if (!cloneFile(from.fd, to.fd)) {
      await to.truncate(length);
      for (const run of dataRuns(from.fd, 0, length)) await copyRun(from, to, run, name);
    }
    for (const file of [from, to]) {
      if ((await file.stat()).size !== length) throw new SnapshotDamaged(name, 'was changed meanwhile');
    }
    await to.chmod(mode);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#dir.close();
  }
}

async function openDirectory(path: string): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  return open(path, flags).catch((cause: NodeJS.ErrnoException) => {
    const problem = { ENOENT: 'is missing', ENOTDIR: 'is none', ELOOP: 'is a link' }[cause.code ?? ''];
    if (problem) throw damagedDirectory(problem, { cause });
    throw cause;
  });
}

function damagedDirectory(reason: string, options?: { cause: unknown }): SnapshotDamaged {
  return new SnapshotDamaged('the directory', reason, options);
}

/** A path that stays in the directory whatever becomes of the path by which it was opened. */
function inside(dir: FileHandle, name = '.'): string {
  return `/proc/self/fd/${dir.fd}/${name}`;
}

async function copyRun(
  from: FileHandle,
  to: FileHandle,
  { offset, length }: { offset: number; length: number },
  name: string,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(copyBytes, length));
  for (let done = 0; done < length; done += buffer.length) {
    const part = buffer.subarray(0, length - done);
    await readFully(from, part, offset + done, name);
    await writeFully(to, [part], offset + done);
  }
}
