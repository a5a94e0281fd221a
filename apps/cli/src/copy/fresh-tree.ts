/** A directory that is filled with what a guest says, and appears whole or not at all. */
import { chmod, lstat, readdir, rename, rm } from 'node:fs/promises';
import { quoted } from '@perch/node-kit';
import { limits } from '@perch/protocol';
import { CliError } from '../errors.ts';
import { fileError, partialName } from './local.ts';

const mostEntries = 1_000_000;
const deepest = limits.archive.depth;
/** Of what is kept until the end, such as what links say, bytes. */
const mostKept = 128 * 2 ** 20;
/** Longest name of a file, `bytes`; limits.h: NAME_MAX */
const longestName = 255;

/** Bounds of a tree. @throws CliError beyond them */
export interface Budget {
  entry(path: string): void;
  directory(path: string, depth: number): void;
  kept(path: string, bytes: number): void;
}

export function budgetOf(): Budget {
  let entries = 0;
  let kept = 0;
  return {
    entry(path) {
      if (++entries > mostEntries) throw refused(path, `is beyond the first ${mostEntries} files`);
    },
    directory(path, depth) {
      if (depth > deepest) throw refused(path, `lies more than ${deepest} directories deep`);
    },
    kept(path, bytes) {
      kept += bytes;
      if (kept > mostKept) throw refused(path, 'is beyond what is kept of names of directories and links');
    },
  };
}

/**
 * @param fill makes the directory under the name that it is given
 * @throws CliError where `to` is there already; what `fill` throws
 */
export async function whole(to: string, fill: (partial: Buffer) => Promise<void>): Promise<void> {
  if (await lstat(to).catch(() => undefined)) throw fileError(to, { code: 'EEXIST' });
  const partial = Buffer.from(partialName(to));
  try {
    await fill(partial);
    await rename(partial, to);
  } catch (error) {
    await removeTree(partial);
    throw fileError(to, error);
  }
}

/** Also what is below directories whose mode keeps their owner out. */
async function removeTree(path: Buffer): Promise<void> {
  await chmod(path, 0o700).catch(() => {});
  for (const entry of await readdir(path, { withFileTypes: true, encoding: 'buffer' }).catch(() => [])) {
    if (entry.isDirectory()) await removeTree(inside(path, entry.name));
  }
  await rm(path, { recursive: true, force: true });
}

export function isSingleName(name: Buffer): boolean {
  const is = (text: string) => name.equals(Buffer.from(text));
  const single = name.length > 0 && !is('.') && !is('..') && !name.includes(0) && !name.includes(0x2f);
  return single && name.length <= longestName;
}

export function inside(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, Buffer.from('/'), name]);
}

export function refused(path: string, why: string): CliError {
  return new CliError(
    `"${quoted(path)}" in the sandbox ${why}.`,
    'Nothing was copied. Name a directory below it, or pack it in the sandbox and copy that.',
  );
}
