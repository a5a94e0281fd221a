/**
 * The bytes of an empty qcow2 overlay, and how large one can grow.
 * Source: docs/interop/qcow2.rst of QEMU 10.0 (version 3).
 *
 * Written here and not by `qemu-img create`, since that takes 15 ms of process start for four clusters that
 * depend on two numbers. Reading an image that a guest could have influenced is another matter: Perch does
 * not, QEMU does that under the VM's own uid.
 *
 * Clusters are 64 KiB, the size at which the metadata of a disk stays in QEMU's caches. `extended_l2` is
 * off: it would save the copy of 64 KiB at the first write to a cluster, which is a copy within the page
 * cache here, and doubles the metadata. `lazy_refcounts` is off: an overlay must be right after a crash of
 * the monitor without a repair, and a repair would read every table.
 */

const clusterBits = 16;
export const clusterSize = 2 ** clusterBits;
/** Refcounts have 2^4 = 16 bits. */
const refcountOrder = 4;
export const refcountsPerBlock = clusterSize / 2;
export const entriesPerTable = clusterSize / 8;
/** Bytes of the disk that one L1 entry (one L2 table) describes: 512 MiB. */
const bytesPerL1Entry = entriesPerTable * clusterSize;
/** The L1 table stays one cluster up to 4 TiB, far above what a sandbox may ask for. */
export const maxDiskBytes = entriesPerTable * bytesPerL1Entry;

const headerLength = 112;
const extension = { end: 0, backingFormat: 0xe2792aca } as const;
/** Longest backing file name of the format, bytes. */
const maxBackingName = 1023;

/** Where the four metadata clusters lie. The rest of the file is data that the guest has written. */
export const layout = { header: 0, refcountTable: 1, refcountBlock: 2, l1Table: 3 } as const;
export const initialClusters = 4;

export interface EmptyOverlay {
  /** The parts that are not zero: everything else of the file is a hole. */
  parts: { offset: number; bytes: Buffer }[];
  /** Length of the file, bytes. */
  fileBytes: number;
}

/**
 * @param diskBytes size that the guest sees; a multiple of 512, up to `maxDiskBytes`
 * @param backing name of the base as the overlay's reader would look it up, beside the overlay; format raw
 * @throws RangeError for what the format, or this layout, cannot hold
 */
export function emptyOverlay(diskBytes: number, backing: string): EmptyOverlay {
  assertDiskBytes(diskBytes);
  const name = Buffer.from(backing);
  if (name.length === 0 || name.length > maxBackingName) {
    throw new RangeError(`A backing file name has 1 to ${maxBackingName} bytes, not ${name.length}`);
  }
  const refcounts = Buffer.alloc(initialClusters * 2);
  for (let cluster = 0; cluster < initialClusters; cluster++) refcounts.writeUInt16BE(1, cluster * 2);
  const refcountTable = Buffer.alloc(8);
  refcountTable.writeBigUInt64BE(BigInt(layout.refcountBlock * clusterSize));
  return {
    parts: [
      { offset: layout.header, bytes: header(diskBytes, name) },
      { offset: layout.refcountTable * clusterSize, bytes: refcountTable },
      { offset: layout.refcountBlock * clusterSize, bytes: refcounts },
    ],
    fileBytes: initialClusters * clusterSize,
  };
}

function header(diskBytes: number, backing: Buffer): Buffer {
  const format = Buffer.from('raw\0\0\0\0\0');
  const extensions = Buffer.alloc(8 + format.length + 8);
  extensions.writeUInt32BE(extension.backingFormat, 0);
  extensions.writeUInt32BE(3, 4);
  format.copy(extensions, 8);
  extensions.writeUInt32BE(extension.end, 16);

  const fixed = Buffer.alloc(headerLength);
  fixed.write('QFI\xfb', 0, 'latin1');
  fixed.writeUInt32BE(3, 4); // version
  fixed.writeBigUInt64BE(BigInt(headerLength + extensions.length), 8); // offset of the backing file name
  fixed.writeUInt32BE(backing.length, 16);
  fixed.writeUInt32BE(clusterBits, 20);
  fixed.writeBigUInt64BE(BigInt(diskBytes), 24);
  fixed.writeUInt32BE(Math.ceil(diskBytes / bytesPerL1Entry), 36); // entries of the L1 table
  fixed.writeBigUInt64BE(BigInt(layout.l1Table * clusterSize), 40);
  fixed.writeBigUInt64BE(BigInt(layout.refcountTable * clusterSize), 48);
  fixed.writeUInt32BE(1, 56); // clusters of the refcount table
  // 60..96: no internal snapshots, no incompatible, compatible or autoclear features.
  fixed.writeUInt32BE(refcountOrder, 96);
  fixed.writeUInt32BE(headerLength, 100);
  return Buffer.concat([fixed, extensions, backing]);
}

/** The largest file of an overlay of that size. The slack lets QEMU move a table while the old one still has its place. */
export function maxOverlayBytes(diskBytes: number): number {
  const slack = 256;
  return (Math.ceil(diskBytes / clusterSize) + slack) * clusterSize + maxTableBytes(diskBytes);
}

/** All tables of an overlay of that size when every cluster is written, bytes. */
export function maxTableBytes(diskBytes: number): number {
  assertDiskBytes(diskBytes);
  const tables = Math.ceil(diskBytes / bytesPerL1Entry) + initialClusters;
  const counted = Math.ceil(diskBytes / clusterSize) + tables;
  return (tables + Math.ceil(counted / refcountsPerBlock) + 1) * clusterSize;
}

function assertDiskBytes(diskBytes: number): void {
  if (!Number.isSafeInteger(diskBytes) || diskBytes <= 0 || diskBytes > maxDiskBytes || diskBytes % 512) {
    throw new RangeError(`A disk has a multiple of 512 bytes up to ${maxDiskBytes}, not ${diskBytes}`);
  }
}
