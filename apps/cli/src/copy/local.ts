/** The end of a copy that is on this machine. */
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CliError } from '../errors.ts';

export interface LocalSource {
  stream: Readable;
  size: number | undefined;
}

const chunkBytes = 256 * 1024;

export async function openSource(
  source: { kind: 'file'; path: string } | { kind: 'standard' },
): Promise<LocalSource> {
  if (source.kind === 'standard') return { stream: process.stdin, size: undefined };
  const { path } = source;
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw fileError(path, error);
  });
  const status = await handle.stat();
  if (status.isDirectory()) {
    await handle.close();
    throw new CliError(
      `${path} is a directory.`,
      `Pack it: tar c -C ${dirname(path)} ${basename(path)} | perch exec ID -- tar x`,
    );
  }
  const size = status.isFile() ? status.size : undefined;
  return { stream: handle.createReadStream({ highWaterMark: chunkBytes }), size };
}

/** A directory that is there keeps the name of the source. */
export async function destinationOf(path: string, name: string): Promise<string> {
  const status = await stat(path).catch(() => undefined);
  return status?.isDirectory() ? join(path, name) : path;
}

/** A file appears whole or not at all: it is written under another name first. */
export async function writeWhole(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
  if (path === '-') {
    await pipeline(content, process.stdout, { end: false });
    return;
  }
  const status = await stat(path).catch(() => undefined);
  if (status && !status.isFile()) {
    // A terminal, a pipe or /dev/null is written to as it is.
    await pipeline(content, createWriteStream(path)).catch((error: unknown) => {
      throw fileError(path, error);
    });
    return;
  }
  const partial = join(dirname(path), `.${basename(path)}.perch-${randomBytes(4).toString('hex')}`);
  try {
    await pipeline(content, createWriteStream(partial, { flags: 'wx', highWaterMark: 4 * chunkBytes }));
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw fileError(path, error);
  }
}

const problems: Record<string, [problem: string, remedy: string]> = {
  ENOENT: ['does not exist', 'Check the path, and that its directory is there.'],
  EACCES: ['may not be opened', 'Check who owns it, and its mode.'],
  EPERM: ['may not be opened', 'Check who owns it, and its mode.'],
  EROFS: ['is on a read-only file system', 'Choose another directory.'],
  ENOTDIR: ['has a parent that is no directory', 'Check the path.'],
  EISDIR: ['is a directory', 'Name a file.'],
  ENOSPC: ['does not fit: the disk is full', 'Free some space, or choose another disk.'],
};

function fileError(path: string, error: unknown): unknown {
  const [problem, remedy] = problems[(error as NodeJS.ErrnoException).code ?? ''] ?? [];
  return problem && remedy ? new CliError(`${path} ${problem}.`, remedy, { cause: error }) : error;
}
