/**
 * The room of stores that is not theirs alone: they share blocks with a state, and a write to one of those takes new
 * room on the host. It is looked up when it may have grown. Each write makes it less, and so what is known is a bound.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { ifThere } from '@perch/node-kit';
import { sharedBlocks } from '../../linux/index.ts';
import type { DiskPlace } from '../backend.ts';
import { storePath } from './vm-disk.ts';

export class SharedRoom {
  /** By VM. */
  readonly #bytes = new Map<string, number>();

  /** All of it may be shared from here on, until it is looked at. */
  mayGrow({ id }: DiskPlace): void {
    this.#bytes.set(id, Number.POSITIVE_INFINITY);
  }

  async lookAt({ id, dir }: DiskPlace): Promise<void> {
    // A monitor may put something else there, which is then as large as it says.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using store = await ifThere(open(storePath(dir), flags));
    const blocks = store ? await sharedBlocks(store.fd) : [];
    this.#bytes.set(
      id,
      blocks.reduce((sum, { length }) => sum + length, 0),
    );
  }

  forget({ id }: DiskPlace): void {
    this.#bytes.delete(id);
  }

  /** The most that the store shares, bytes. */
  of({ id }: DiskPlace): number {
    return this.#bytes.get(id) ?? 0;
  }
}
