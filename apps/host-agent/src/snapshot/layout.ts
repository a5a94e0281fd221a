/** Where the parts of a snapshot lie, and what the presence of which of them says. */
import { randomUUID } from 'node:crypto';
import { lstat, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasCode, ifThere } from '@perch/node-kit';
import { assertBuildId, type BuildId, isBuildId } from './build-id.ts';
import { type Occupied, occupiedBy, regularFiles } from './occupied.ts';

/** Files of a snapshot that have one name each. */
export const snapshotFiles = {
  /** VM device state, as the VM monitor wrote it. */
  snapfile: 'snapfile',
  /** Guest memory: the pages of this build only. */
  memfile: 'memfile',
  /** Mapping of guest memory to builds. */
  memfileHeader: 'memfile.header',
  /** Copy-on-write layer of the root disk: the part that this build wrote. */
  rootfsCow: 'rootfs.cow',
  /** The file that the copy-on-write layer was made against. */
  rootfsMeta: 'rootfs.meta',
  /** Hard link to the base image below the copy-on-write layers. */
  rootfsBase: 'rootfs.base',
  /** A root disk that stands alone, instead of the three above. */
  rootfsExt4: 'rootfs.ext4',
  /** Secrets of the life that was captured. */
  identity: 'identity.json',
  /** Lengths and checksums of all others; written last. */
  manifest: 'manifest.json',
} as const;

const oneOfAKind: ReadonlySet<string> = new Set(Object.values(snapshotFiles));

/** Hard link to the memfile of an ancestor. */
export function ancestorMemfile(build: BuildId): string {
  assertBuildId(build);
  return `${snapshotFiles.memfile}.${build}`;
}

/** Of the file with the memory of `build`, in a snapshot whose own build is `own`. */
export function memfileName(build: BuildId, own: BuildId): string {
  return build === own ? snapshotFiles.memfile : ancestorMemfile(build);
}

/** Hard link to a lower copy-on-write layer. */
export function ancestorRootfsCow(build: BuildId): string {
  assertBuildId(build);
  return `${snapshotFiles.rootfsCow}.${build}`;
}

/** Whether a snapshot has files of that name. */
export function isSnapshotFile(name: string): boolean {
  if (oneOfAKind.has(name)) return true;
  const match = /^(?:memfile|rootfs\.cow)\.([^.]+)$/.exec(name);
  return match?.[1] !== undefined && isBuildId(match[1]);
}

/** The files without which no guest can go on where it was, whatever holds its root disk. */
const running = [snapshotFiles.snapfile, snapshotFiles.memfile, snapshotFiles.memfileHeader];
const cow = [snapshotFiles.rootfsCow, snapshotFiles.rootfsMeta];

/** Whether files of these names are a snapshot: device state, memory, and a root disk in one of its two forms. */
export function isComplete(names: ReadonlySet<string>): boolean {
  return hasDisk(names) && running.every((name) => names.has(name));
}

/** Whether files of these names are a snapshot without memory: a root disk in one of its two forms, and nothing of a running guest. */
export function isDiskAlone(names: ReadonlySet<string>): boolean {
  return hasDisk(names) && ![...names].some(isOfRunning);
}

function hasDisk(names: ReadonlySet<string>): boolean {
  return names.has(snapshotFiles.rootfsExt4) || cow.every((name) => names.has(name));
}

/** Whether it holds device state or memory. */
export function isOfRunning(name: string): boolean {
  return running.some((one) => one === name) || name.startsWith(`${snapshotFiles.memfile}.`);
}

/** A snapshot directory, there or not. The predicates look at names only: `openSnapshot` looks inside. */
export class SnapshotDirectory {
  /** Absolute. */
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Absolute path of a file. @throws RangeError for a name that no snapshot has */
  file(name: string): string {
    if (!isSnapshotFile(name)) throw new RangeError(`No file of a snapshot: ${name}`);
    return join(this.path, name);
  }

  /** Where the memory of `build` is, in a snapshot whose own build is `own`. */
  memfileOf(build: BuildId, own: BuildId): string {
    return this.file(memfileName(build, own));
  }

  async exists(): Promise<boolean> {
    return isComplete(new Set(await this.names()));
  }

  /** Whether the directory is there, with whatever in it. */
  async isThere(): Promise<boolean> {
    return (await ifThere(lstat(this.path))) !== undefined;
  }

  /** Makes the directory, readable by root only: a memory image holds secrets. No error when it is there. */
  async ensure(): Promise<void> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
  }

  /**
   * Removes all of it; no error when there is none. Its name goes first, so that nobody finds a part of it there:
   * a crash leaves `.gone-…` beside it.
   */
  async remove(): Promise<void> {
    const gone = join(dirname(this.path), `.gone-${randomUUID()}`);
    try {
      await rename(this.path, gone);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw error;
    }
    await rm(gone, { recursive: true, force: true });
  }

  /** The room that it occupies on the disk; nothing when there is none. */
  occupied(): Promise<Occupied> {
    return occupiedBy([this.path]);
  }

  /** Own and shared bytes together. */
  async sizeBytes(): Promise<number> {
    const { ownBytes, sharedBytes } = await this.occupied();
    return ownBytes + sharedBytes;
  }

  /** Of these files together, whoever shares them. */
  async bytesOf(names: Iterable<string>): Promise<number> {
    let bytes = 0;
    for (const name of names) bytes += (await lstat(this.file(name))).blocks * 512;
    return bytes;
  }

  /** The regular files that it has of those that a snapshot may have. */
  async names(): Promise<string[]> {
    return [...(await regularFiles(this.path)).keys()].filter(isSnapshotFile);
  }
}
