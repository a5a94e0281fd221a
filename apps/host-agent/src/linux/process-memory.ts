/**
 * Memory of another process: which pages of a private file mapping it has changed, and copies of them.
 * Sources: proc_pid_maps(5), proc_pid_pagemap(5), process_vm_readv(2).
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { makeDevice } from './device-node.ts';
import { processVmReadv, processVmWritev } from './ffi.ts';

export const pageBytes = 4096;

/** A part of a file that a process has mapped. */
export interface FileMapping {
  /** Address of its first byte. */
  address: number;
  /** Bytes; a multiple of the page size. */
  length: number;
  /** Of its first byte in the file. */
  fileOffset: number;
}

/** As stat(2) tells it. */
interface MappedFile {
  dev: bigint;
  ino: bigint;
}

/** A run of bytes of the mapped file. */
export interface MemoryRun {
  offset: number;
  length: number;
}

/** Ranges that one call takes (IOV_MAX). */
export const maxRunsPerCall = 1024;

/** `address-end perms offset dev inode path`, of which the path is what anybody may have made it. */
const mapsLine = /^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+)/;

/** Where `pid` has mapped the file, in the order of the file. Parts of one file that lie side by side are one. */
export function fileMappings(pid: number, file: MappedFile): FileMapping[] {
  return parseMappings(readFileSync(`/proc/${pid}/maps`, 'latin1'), file);
}

/** The same of the text of `maps`. */
export function parseMappings(maps: string, file: MappedFile): FileMapping[] {
  const found: FileMapping[] = [];
  for (const line of maps.split('\n')) {
    const match = mapsLine.exec(line);
    if (!match) continue;
    const [start, end, fileOffset] = match.slice(1, 4).map((digits) => Number.parseInt(digits, 16));
    if (BigInt(match[6] ?? 0) !== file.ino || mappedDevice(match[4], match[5]) !== file.dev) continue;
    if (start === undefined || end === undefined || fileOffset === undefined) continue;
    found.push({ address: start, length: end - start, fileOffset });
  }
  return found.sort((a, b) => a.fileOffset - b.fileOffset);
}

/** As stat(2) tells it, from the two hexadecimal numbers of maps. */
function mappedDevice(majorDigits = '0', minorDigits = '0'): bigint {
  return makeDevice(BigInt(`0x${majorDigits}`), BigInt(`0x${minorDigits}`));
}

/** High words of pagemap entries: bit 63 present, bit 62 swapped, bit 61 a page of the file. */
const presentOrSwapped = 0xc000_0000;
const ofTheFile = 0x2000_0000;
const pagesPerRead = 32 * 1024;

/**
 * The pages of a private mapping that are no longer the file's: each was written to since it was mapped.
 * @returns runs of the file, sorted, none touching the next
 */
export function changedPages(pid: number, mappings: readonly FileMapping[]): MemoryRun[] {
  const runs: MemoryRun[] = [];
  const bytes = new ArrayBuffer(pagesPerRead * 8);
  const fd = openSync(`/proc/${pid}/pagemap`, 'r');
  try {
    for (const mapping of mappings) {
      const pages = mapping.length / pageBytes;
      for (let first = 0; first < pages; first += pagesPerRead) {
        const count = Math.min(pagesPerRead, pages - first);
        const at = (mapping.address / pageBytes + first) * 8;
        const read = readSync(fd, new Uint8Array(bytes), 0, count * 8, at);
        if (read !== count * 8) throw new Error(`/proc/${pid}/pagemap gave ${read} of ${count * 8} bytes`);
        collect(new Uint32Array(bytes, 0, count * 2), mapping.fileOffset + first * pageBytes, runs);
      }
    }
  } finally {
    closeSync(fd);
  }
  return runs;
}

function collect(words: Uint32Array, offset: number, runs: MemoryRun[]): void {
  let last = runs.at(-1);
  for (let page = 0; page * 2 < words.length; page++) {
    const high = words[page * 2 + 1] ?? 0;
    if ((high & presentOrSwapped) === 0 || (high & ofTheFile) !== 0) continue;
    const at = offset + page * pageBytes;
    if (last && last.offset + last.length === at) last.length += pageBytes;
    else {
      last = { offset: at, length: pageBytes };
      runs.push(last);
    }
  }
}

/**
 * Copies runs of the mapped file, as the process sees them, one after the other into `into`.
 * @throws SystemCallError; RangeError when a run is not in the mappings
 */
export async function readMemory(
  pid: number,
  mappings: readonly FileMapping[],
  runs: readonly MemoryRun[],
  into: Uint8Array,
): Promise<void> {
  transfer(processVmReadv, pid, mappings, runs, into);
}

/** The other way: `from` holds the runs one after the other. Its changes are private to the process. */
export async function writeMemory(
  pid: number,
  mappings: readonly FileMapping[],
  runs: readonly MemoryRun[],
  from: Uint8Array,
): Promise<void> {
  transfer(processVmWritev, pid, mappings, runs, from);
}

function transfer(
  call: typeof processVmReadv,
  pid: number,
  mappings: readonly FileMapping[],
  runs: readonly MemoryRun[],
  bytes: Uint8Array,
): void {
  let done = 0;
  for (let i = 0; i < runs.length; i += maxRunsPerCall) {
    const part = runs.slice(i, i + maxRunsPerCall);
    const length = part.reduce((sum, run) => sum + run.length, 0);
    const moved = call(pid, bytes.subarray(done, done + length), remoteVector(mappings, part));
    if (moved !== length) throw new Error(`process ${pid}: ${moved} of ${length} bytes of memory were moved`);
    done += length;
  }
}

/** struct iovec: address and length, 64 bits each. */
function remoteVector(mappings: readonly FileMapping[], runs: readonly MemoryRun[]): BigUint64Array {
  const vector = new BigUint64Array(runs.length * 2);
  runs.forEach((run, i) => {
    const mapping = mappings.find(
      (one) => run.offset >= one.fileOffset && run.offset + run.length <= one.fileOffset + one.length,
    );
    if (!mapping) throw new RangeError(`no mapping holds the ${run.length} bytes at ${run.offset}`);
    vector[i * 2] = BigInt(mapping.address + run.offset - mapping.fileOffset);
    vector[i * 2 + 1] = BigInt(run.length);
  });
  return vector;
}
