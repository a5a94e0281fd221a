/** The end of a copy that is on this machine. */
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CliError } from '../errors.ts';
import { type Attributes, onDisk, permissionBits, secondsOf, settable, timeOf } from './attributes.ts';

export interface LocalSource extends Attributes {
  stream: Readable;
  size: number | undefined;
  /** `modifiedAt` is the nearest that the disk of a sandbox has. */
  isNearest: boolean;
}

const unknown: Attributes = { mode: undefined, modifiedAt: undefined };
const unsaid = { ...unknown, isNearest: false };

const chunkBytes = 256 * 1024;

export async function openSource(
  source: { kind: 'file'; path: string } | { kind: 'standard' },
): Promise<LocalSource> {
  if (source.kind === 'standard') return { stream: process.stdin, size: undefined, ...unsaid };
  const { path } = source;
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw fileError(path, error);
  });
  const status = await handle.stat({ bigint: true });
  if (status.isDirectory()) {
    await handle.close();
    throw new CliError(`${path} is a directory.`, 'Copy it with all that is below: perch cp -r');
  }
  const stream = handle.createReadStream({ highWaterMark: chunkBytes });
  if (!status.isFile()) return { stream, size: undefined, ...unsaid };
  const mode = Number(status.mode) & permissionBits;
  const modified = onDisk(status.mtimeNs);
  const isNearest = modified !== status.mtimeNs;
  return { stream, size: Number(status.size), mode, modifiedAt: timeOf(modified), isNearest };
}

/** A directory that is there keeps the name of the source. */
export async function destinationOf(path: string, name: string): Promise<string> {
  const status = await stat(path).catch(() => undefined);
  return status?.isDirectory() ? join(path, name) : path;
}

/** A file appears whole or not at all: it is written under another name first. A terminal, a pipe or /dev/null stays as it is. */
export async function writeWhole(
  path: string,
  content: AsyncIterable<Uint8Array>,
  attributes: Attributes = unknown,
): Promise<void> {
  if (path === '-') {
    await pipeline(content, process.stdout, { end: false });
    return;
  }
  const status = await stat(path).catch(() => undefined);
  if (status && !status.isFile()) {
    await pipeline(content, createWriteStream(path)).catch((error: unknown) => {
      throw fileError(path, error);
    });
    return;
  }
  const partial = partialName(path);
  try {
    await writeNew(partial, content, attributes);
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw fileError(path, error);
  }
}

/** A name beside `path`, of what is to take its place. */
export function partialName(path: string): string {
  return join(dirname(path), `.${basename(path)}.perch-${randomBytes(4).toString('hex')}`);
}

/** Makes a file, at no time open to more than in the end: to those whom its mode names, less the umask. */
export async function writeNew(
  path: string | Buffer,
  content: AsyncIterable<Uint8Array>,
  { mode = 0o666, modifiedAt }: Attributes,
): Promise<void> {
  await using file = await open(path, 'wx', mode & permissionBits);
  await writeFile(file, content);
  const seconds = secondsOf(modifiedAt);
  if (seconds !== undefined) await file.utimes(new Date(), settable(seconds));
}

const problems: Record<string, [problem: string, remedy: string]> = {
  ENOENT: ['does not exist', 'Check the path, and that its directory is there.'],
  EACCES: ['may not be opened', 'Check who owns it, and its mode.'],
  EPERM: ['may not be opened', 'Check who owns it, and its mode.'],
  EROFS: ['is on a read-only file system', 'Choose another directory.'],
  ENOTDIR: ['has a parent that is no directory', 'Check the path.'],
  EEXIST: ['is there already', 'Choose another name, or remove it.'],
  ENOTEMPTY: ['is there already', 'Choose another name, or remove it.'],
  EISDIR: ['is a directory', 'Name a file.'],
  ENAMETOOLONG: ['would have a path that is too long', 'Choose a directory with a shorter path.'],
  ENOSPC: ['does not fit: the disk is full', 'Free some space, or choose another disk.'],
};

export function fileError(path: string, error: unknown): unknown {
  const [problem, remedy] = problems[(error as NodeJS.ErrnoException).code ?? ''] ?? [];
  return problem && remedy ? new CliError(`${path} ${problem}.`, remedy, { cause: error }) : error;
}
