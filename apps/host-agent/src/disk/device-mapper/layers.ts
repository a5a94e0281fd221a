/** Layers of device-mapper as files. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { LayerCodec, LayeredState } from '../changes.ts';
import { type ExceptionStore, ownChunkBytes, readStore, writeStore } from './exception-store/index.ts';

export const storeLayers: LayerCodec = {
  unitBytes: ownChunkBytes,
  async room(state, sizeBytes, unitBytes) {
    await using layer = await openLayer(state);
    return unitsOf(await readStore(layer, sizeBytes), unitBytes) * unitBytes;
  },
  async read(state, _base, { sizeBytes }) {
    await using held = new AsyncDisposableStack();
    const file = held.use(await openLayer(state));
    const store = await readStore(file, sizeBytes);
    const opened = held.move();
    return { file, runs: store.runs(), [Symbol.asyncDispose]: () => opened.disposeAsync() };
  },
  write: (to, { file, runs }, _base, { sizeBytes, signal }) => writeStore(to, sizeBytes, runs, file, signal),
};

/** It has all that was written, whatever it went on from. */
function openLayer({ layers }: LayeredState): Promise<FileHandle> {
  return open(layers.at(-1) ?? '', constants.O_RDONLY | constants.O_NOFOLLOW);
}

/** Units of the disk in which the store has something. */
function unitsOf(store: ExceptionStore, unitBytes: number): number {
  let [units, next] = [0, 0];
  for (const { offset, length } of store.changedRanges()) {
    const first = Math.max(next, Math.floor(offset / unitBytes));
    next = Math.ceil((offset + length) / unitBytes);
    units += Math.max(0, next - first);
  }
  return units;
}
