/** Puts a snapshot in the place of another, and reads one that may be exchanged meanwhile. */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ifThere, sync } from '@perch/node-kit';
import { failpoint } from '../failpoints/index.ts';
import { exchange } from '../linux/index.ts';
import { SnapshotDamaged } from './damaged.ts';
import type { SnapshotDirectory } from './layout.ts';

/** The one has taken the place of the other, which a power cut may still bring back. */
export class ExchangeNotDurable extends Error {
  override readonly name = 'ExchangeNotDurable';
}

/**
 * Whoever looks at a path finds one of the two, whole, at any moment and after a power cut. When it has resolved the
 * change is durable, and what was at `final` can be removed from `made`.
 * @param made committed, on the file system of `final`
 * @throws ExchangeNotDurable; any other error means that both are where they were
 */
export async function exchangeSnapshots(made: SnapshotDirectory, final: SnapshotDirectory): Promise<void> {
  exchange(made.path, final.path);
  failpoint('merge.exchanged');
  try {
    await sync(dirname(final.path));
    await sync(dirname(made.path));
  } catch (cause) {
    throw new ExchangeNotDurable(`What is at ${final.path} now may not outlive a power cut.`, { cause });
  }
}

/** Reads one snapshot by `read`, or the one that took its place meanwhile. */
export async function whileInPlace<T>(directory: SnapshotDirectory, read: () => Promise<T>): Promise<T> {
  for (;;) {
    const before = await inodeOf(directory);
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof SnapshotDamaged) || (await inodeOf(directory)) === before) throw error;
    }
  }
}

/** Undefined when there is none. Both directories of an exchange are there at the same time, so theirs differ. */
async function inodeOf({ path }: SnapshotDirectory): Promise<number | undefined> {
  return (await ifThere(stat(path)))?.ino;
}
