/** Layers of device-mapper as files. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dataOf, type LayerCodec, type LayeredState } from '../changes.ts';
import {
  type ExceptionStore,
  fullStoreBytes,
  ownChunkBytes,
  readStore,
  writeStore,
} from './exception-store/index.ts';

export const storeLayers: LayerCodec = {
  unitBytes: ownChunkBytes,
  maxListBytes: (sizeBytes) => fullStoreBytes(sizeBytes) - sizeBytes,
  async read(state, _base, { sizeBytes }, { unitBytes, admit }) {
    await using held = new AsyncDisposableStack();
    const file = held.use(await openLayer(state));
    const store = await readStore(file, sizeBytes);
    await admit({ reading: 0, changed: unitsOf(store, unitBytes) * unitBytes });
    const opened = held.move();
    return { file, runs: store.runs(), [Symbol.asyncDispose]: () => opened.disposeAsync() };
  },
  write: (to, { file, runs }, _base, { sizeBytes, signal }) => writeStore(to, sizeBytes, runs, file, signal),
};

/** It has all that was written, whatever it went on from. */
function openLayer({ layers }: LayeredState): Promise<FileHandle> {
  return open(layers.at(-1) ?? '', constants.O_RDONLY | constants.O_NOFOLLOW);
}

/** Units of the disk in which the store has data. */
function unitsOf(store: ExceptionStore, unitBytes: number): number {
  let [units, next] = [0, 0];
  for (const run of store.runs()) {
    for (const { offset, length } of dataOf(store.file, run).runs()) {
      const first = Math.max(next, Math.floor(offset / unitBytes));
      next = Math.max(next, Math.ceil((offset + length) / unitBytes));
      units += Math.max(0, next - first);
    }
  }
  return units;
}
