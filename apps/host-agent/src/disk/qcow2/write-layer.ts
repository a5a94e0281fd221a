/**
 * Makes a layer of changes, in the layout of an empty overlay: clusters of data and second-level tables follow as they
 * come, then what counts them. Source: docs/interop/qcow2.rst of QEMU 10.0 (version 3).
 */
import type { FileHandle } from 'node:fs/promises';
import type { ToolPlace } from '../backend.ts';
import { readOrZeros, writeFully } from '../bytes.ts';
import type { Changes } from '../changes.ts';
import type { StoredRun } from '../ranges.ts';
import {
  clusterSize,
  emptyOverlay,
  entriesPerTable,
  initialClusters,
  layout,
  refcountsPerBlock,
} from './header.ts';
import { baseName } from './qemu-img.ts';

/** Of an entry of a table: the cluster belongs to nobody else. */
const copied = 2n ** 63n;
/** Entry of a cluster that is zeros and has no place in the file. */
const zeroCluster = 1n;
const zeros = Buffer.alloc(clusterSize);

/**
 * Clusters that are zeros take no room. The header comes last, so that a file that was not finished is no layer.
 * Memory is a few clusters, whatever the size of the disk.
 */
export async function writeLayer(
  to: FileHandle,
  { file, runs }: Changes,
  base: FileHandle,
  { sizeBytes, signal }: Pick<ToolPlace, 'sizeBytes' | 'signal'>,
): Promise<void> {
  const tables = new Tables(to);
  const bytes = Buffer.allocUnsafe(clusterSize);
  for await (const { cluster, parts } of byCluster(runs)) {
    signal?.throwIfAborted();
    const changed = parts.reduce((sum, { length }) => sum + length, 0);
    if (changed < clusterSize) await readOrZeros(base, bytes, cluster * clusterSize);
    for (const { offset, length, at } of parts) {
      const within = offset - cluster * clusterSize;
      await readOrZeros(file, bytes.subarray(within, within + length), at);
    }
    if (bytes.equals(zeros)) await tables.set(cluster, zeroCluster);
    else await tables.set(cluster, BigInt(await tables.append(bytes)) | copied);
  }
  await tables.finish(sizeBytes);
}

interface ChangedCluster {
  cluster: number;
  /** Within it, ascending. */
  parts: StoredRun[];
}

async function* byCluster(runs: Changes['runs']): AsyncGenerator<ChangedCluster> {
  let last: ChangedCluster | undefined;
  for await (const run of runs) {
    for (let done = 0; done < run.length; ) {
      const offset = run.offset + done;
      const cluster = Math.floor(offset / clusterSize);
      const length = Math.min(run.length - done, (cluster + 1) * clusterSize - offset);
      if (last?.cluster !== cluster) {
        if (last) yield last;
        last = { cluster, parts: [] };
      }
      last.parts.push({ offset, length, at: run.at + done });
      done += length;
    }
  }
  if (last) yield last;
}

/** The metadata of a layer that is written from the lowest cluster of the disk up. */
class Tables {
  readonly #to: FileHandle;
  readonly #first = Buffer.alloc(clusterSize);
  readonly #second = Buffer.alloc(clusterSize);
  #table: number | undefined;
  #clusters = initialClusters;

  constructor(to: FileHandle) {
    this.#to = to;
  }

  /** @returns where in the file the cluster is */
  async append(bytes: Buffer): Promise<number> {
    const offset = this.#clusters++ * clusterSize;
    await writeFully(this.#to, bytes, offset);
    return offset;
  }

  async set(cluster: number, entry: bigint): Promise<void> {
    const table = Math.floor(cluster / entriesPerTable);
    if (table !== this.#table) await this.#writeSecond();
    this.#table = table;
    this.#second.writeBigUInt64BE(entry, (cluster % entriesPerTable) * 8);
  }

  async #writeSecond(): Promise<void> {
    if (this.#table === undefined) return;
    this.#first.writeBigUInt64BE(BigInt(await this.append(this.#second)) | copied, this.#table * 8);
    this.#second.fill(0);
  }

  async finish(sizeBytes: number): Promise<void> {
    await this.#writeSecond();
    await writeFully(this.#to, this.#first, layout.l1Table * clusterSize);
    await this.#writeRefcounts();
    await this.#to.truncate(this.#clusters * clusterSize);
    const { parts } = emptyOverlay(sizeBytes, baseName);
    const header = parts.find(({ offset }) => offset === layout.header);
    if (header) await writeFully(this.#to, header.bytes, header.offset);
  }

  /** Each cluster of the file is used once. The blocks of the counts, of which the first has its place, count themselves. */
  async #writeRefcounts(): Promise<void> {
    const counted = this.#clusters - 1;
    const blocks = Math.ceil(counted / (refcountsPerBlock - 1));
    const first = this.#clusters;
    this.#clusters += blocks - 1;
    const table = Buffer.alloc(clusterSize);
    for (let block = 0; block < blocks; block++) {
      const at = (block === 0 ? layout.refcountBlock : first + block - 1) * clusterSize;
      const used = Math.min(refcountsPerBlock, this.#clusters - block * refcountsPerBlock);
      const counts = Buffer.alloc(clusterSize);
      for (let i = 0; i < used; i++) counts.writeUInt16BE(1, i * 2);
      await writeFully(this.#to, counts, at);
      table.writeBigUInt64BE(BigInt(at), block * 8);
    }
    await writeFully(this.#to, table, layout.refcountTable * clusterSize);
  }
}
