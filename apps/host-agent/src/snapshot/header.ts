/**
 * `memfile.header`: the mapping of a guest's memory to builds, as bytes.
 *
 * Little-endian. 64 bytes: version u64 = 1, block size u64 = 4096, memory size u64, generation u64, build id
 * 16 bytes, base build id 16 bytes. Then entries of 40 bytes to the end: offset u64, length u64, build id 16
 * bytes (all zero: zero-filled), storage offset u64; sorted, covering all memory without gaps.
 */
import { randomInt } from 'node:crypto';
import { writeDurably } from '@perch/node-kit';
import { assertBuildId, type BuildId, buildIdBytes } from './build-id.ts';
import { SnapshotDamaged } from './damaged.ts';
import { type SnapshotDirectory, snapshotFiles } from './layout.ts';
import { type Mapping, pageBytes } from './mapping.ts';
import { MappingBuilder, maxBuilds, maxMemoryBytes, zeroOwner } from './mapping-builder.ts';

const version = 1;
const headBytes = 64;
const entryBytes = 40;
/** Where things lie, bytes from the start of the file and of an entry. */
const head = { version: 0, blockSize: 8, memorySize: 16, generation: 24, build: 32, baseBuild: 48 } as const;
const field = { offset: 0, length: 8, build: 16, storageOffset: 32 } as const;

/** Every page of 64 GiB in an entry of its own. */
const maxEntries = 2 ** 24;
/** Largest file that is read, bytes. */
export const maxHeaderBytes = headBytes + maxEntries * entryBytes;

export interface MemoryHeader {
  /** Number of snapshots before this one in its chain. */
  generation: number;
  /** The build that this snapshot's own `memfile` holds. */
  build: BuildId;
  /** The first build of the chain; of a first build its own. */
  baseBuild: BuildId;
  mapping: Mapping;
}

/** Builds that have a memfile of the memory: its own, the flat one, and those that the mapping names. */
export function buildsOf({ build, baseBuild, mapping }: MemoryHeader): Set<BuildId> {
  return new Set([build, baseBuild, ...mapping.builds]);
}

/** @throws RangeError for what the format cannot hold */
export function encodeHeader({ generation, build, baseBuild, mapping }: MemoryHeader): Buffer {
  if (!Number.isSafeInteger(generation) || generation < 0)
    throw new RangeError(`Not a generation: ${generation}`);
  assertBuildId(build);
  assertBuildId(baseBuild);
  if (mapping.length > maxEntries) throw new RangeError(`A header has at most ${maxEntries} entries`);
  const bytes = Buffer.alloc(headBytes + mapping.length * entryBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  writeU64(view, head.version, version);
  writeU64(view, head.blockSize, pageBytes);
  writeU64(view, head.memorySize, mapping.memoryBytes);
  writeU64(view, head.generation, generation);
  bytes.write(build, head.build, 'hex');
  bytes.write(baseBuild, head.baseBuild, 'hex');

  const { starts, owners, storage, builds } = mapping.arrays;
  const ids = builds.map((id) => idWords(Buffer.from(id ?? '00'.repeat(buildIdBytes), 'hex'), 0));
  for (let index = 0; index < mapping.length; index++) {
    const at = headBytes + index * entryBytes;
    const start = starts[index] as number;
    writeU64(view, at + field.offset, start);
    writeU64(view, at + field.length, (starts[index + 1] as number) - start);
    const id = ids[owners[index] as number] as IdWords;
    for (let word = 0; word < 4; word++)
      view.setUint32(at + field.build + 4 * word, id[word] as number, true);
    writeU64(view, at + field.storageOffset, storage[index] as number);
  }
  return bytes;
}

/** @throws RangeError as `encodeHeader` */
export async function writeHeader(directory: SnapshotDirectory, header: MemoryHeader): Promise<void> {
  await writeDurably(directory.file(snapshotFiles.memfileHeader), encodeHeader(header));
}

/**
 * The storage offset of a zero-filled entry means nothing and is not looked at: writers differ in it.
 * Adjacent entries that continue each other are read as one.
 * @throws SnapshotDamaged for everything that is not a header
 */
export function decodeHeader(bytes: Buffer): MemoryHeader {
  if (bytes.length < headBytes) throw damaged(`has ${bytes.length} bytes, not even its first ${headBytes}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = readU64(view, head.version);
  if (found !== version) throw damaged(`has version ${found}; this Perch reads ${version}`);
  const blockSize = readU64(view, head.blockSize);
  if (blockSize !== pageBytes) throw damaged(`has a block size of ${blockSize}, not ${pageBytes}`);
  const memoryBytes = readU64(view, head.memorySize);
  if (memoryBytes === 0 || memoryBytes > maxMemoryBytes || memoryBytes % pageBytes) {
    throw damaged(`has a memory of ${memoryBytes} bytes`);
  }
  const generation = readU64(view, head.generation);
  if (!Number.isSafeInteger(generation)) throw damaged('has no possible generation');
  return {
    generation,
    build: readBuild(bytes, head.build, 'build id'),
    baseBuild: readBuild(bytes, head.baseBuild, 'base build id'),
    mapping: decodeEntries(bytes, view, memoryBytes),
  };
}

function decodeEntries(bytes: Buffer, view: DataView, memoryBytes: number): Mapping {
  const count = (bytes.length - headBytes) / entryBytes;
  if (!Number.isInteger(count)) throw damaged(`ends within entry ${Math.floor(count)}`);
  if (count > maxEntries) throw damaged(`has ${count} entries, more than the ${maxEntries} allowed`);
  const builder = new MappingBuilder(memoryBytes, count);
  const ownerAt = ownerReader(bytes, view, builder);
  for (let index = 0; index < count; index++) {
    const at = headBytes + index * entryBytes;
    const offset = readU64(view, at + field.offset);
    const length = readU64(view, at + field.length);
    if (offset !== builder.end) throw damaged(`has entry ${index} at ${offset}, where ${builder.end} is due`);
    if (length === 0 || length % pageBytes || length > memoryBytes - offset) {
      throw damaged(`has entry ${index} of ${length} bytes at ${offset}, in a memory of ${memoryBytes}`);
    }
    const owner = ownerAt(at + field.build);
    const storage = owner === zeroOwner ? 0 : readU64(view, at + field.storageOffset);
    if (storage % pageBytes || !Number.isSafeInteger(storage + length)) {
      throw damaged(`has entry ${index} stored at ${storage}`);
    }
    builder.append(offset + length, owner, storage);
  }
  if (builder.end !== memoryBytes) throw damaged(`covers ${builder.end} of ${memoryBytes} bytes`);
  return builder.finish();
}

/** Build ids are compared as numbers: 100,000 of them as strings would take most of the time of a decode. */
type IdWords = readonly [number, number, number, number];

/** Gives the owner index of the build id at a position, and takes each build into the builder once. */
function ownerReader(bytes: Buffer, view: DataView, builder: MappingBuilder): (at: number) => number {
  const zeros = { words: [0, 0, 0, 0] as IdWords, owner: zeroOwner };
  const byHash = new Map([[0, [zeros]]]);
  let count = 0;
  let last = zeros;
  return (at) => {
    if (isAt(view, at, last.words)) return last.owner;
    const hash = hashAt(view, at);
    const candidates = byHash.get(hash) ?? [];
    let found = candidates.find(({ words }) => isAt(view, at, words));
    if (!found) {
      if (++count > maxBuilds) throw damaged(`names more than ${maxBuilds} builds`);
      const owner = builder.addBuild(bytes.toString('hex', at, at + buildIdBytes));
      found = { words: idWords(bytes, at), owner };
      byHash.set(hash, [...candidates, found]);
    }
    last = found;
    return found.owner;
  };
}

/** Random, so that nobody can choose build ids that all have one hash. */
const factors = Array.from({ length: 4 }, () => randomInt(2 ** 31) * 2 + 1) as unknown as IdWords;

function hashAt(view: DataView, at: number): number {
  return (
    Math.imul(view.getUint32(at, true), factors[0]) ^
    Math.imul(view.getUint32(at + 4, true), factors[1]) ^
    Math.imul(view.getUint32(at + 8, true), factors[2]) ^
    Math.imul(view.getUint32(at + 12, true), factors[3])
  );
}

function isAt(view: DataView, at: number, words: IdWords): boolean {
  return (
    view.getUint32(at, true) === words[0] &&
    view.getUint32(at + 4, true) === words[1] &&
    view.getUint32(at + 8, true) === words[2] &&
    view.getUint32(at + 12, true) === words[3]
  );
}

function idWords(bytes: Buffer, at: number): IdWords {
  const word = (index: number) => bytes.readUInt32LE(at + 4 * index);
  return [word(0), word(1), word(2), word(3)];
}

function readBuild(bytes: Buffer, at: number, what: string): BuildId {
  const id = bytes.toString('hex', at, at + buildIdBytes);
  if (/^0+$/.test(id)) throw damaged(`has no ${what}`);
  return id;
}

/** Exact below 2^53. Larger values come out larger than that, and are refused where they are looked at. */
function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function damaged(reason: string): SnapshotDamaged {
  return new SnapshotDamaged(snapshotFiles.memfileHeader, reason);
}
