/**
 * A tar stream as the guest agent makes it: entries of GNU tar, with times as pax has them. The guest is hostile, so
 * nothing else is understood, every number is checked, and no more than one header is kept.
 */

export interface TarEntry {
  /** `other`: what is neither file, directory nor link. */
  kind: 'file' | 'directory' | 'link' | 'other';
  /** As it stands there: it may be absolute, or go up. */
  name: Buffer;
  /** Of a link. */
  target: Buffer;
  /** Bytes of content that follow, of a file only. */
  size: number;
  /** Permission bits. */
  mode: number;
  /** Seconds since 1970, with their fraction. */
  modified: number;
}

export type TarPart = { entry: TarEntry } | { content: Buffer };

export class NoArchive extends Error {
  override readonly name = 'NoArchive';
}

const block = 512;
/** Of a long name, or of what pax says of an entry, bytes. PATH_MAX is 4096. */
const longestExtra = 8192;
const magic = Buffer.from('ustar  \0');
const kinds: Readonly<Record<string, TarEntry['kind']>> = {
  '0': 'file',
  '2': 'link',
  '3': 'other',
  '4': 'other',
  '5': 'directory',
  '6': 'other',
};

interface Extra {
  name?: Buffer;
  target?: Buffer;
  modified?: number;
}

/** By type, of the headers that say something of the next entry. */
const extras: Readonly<Record<string, keyof Extra | undefined>> = { L: 'name', K: 'target', x: 'modified' };

export class TarReader {
  /** The beginning of a header that has not come whole. */
  #kept: Buffer = Buffer.alloc(0);
  #content = 0;
  #padding = 0;
  /** Said of the next entry. */
  #extra: Extra = {};
  #blocksOfZeros = 0;

  /** What is whole with the next bytes, whose memory the parts share. @throws NoArchive */
  *push(chunk: Uint8Array): Generator<TarPart, void, void> {
    const next = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let bytes = this.#kept.length > 0 ? Buffer.concat([this.#kept, next]) : next;
    this.#kept = Buffer.alloc(0);
    while (bytes.length > 0) {
      if (this.#content > 0) {
        const content = bytes.subarray(0, this.#content);
        this.#content -= content.length;
        bytes = bytes.subarray(content.length);
        yield { content };
      } else if (this.#padding > 0) {
        const count = Math.min(this.#padding, bytes.length);
        this.#padding -= count;
        bytes = bytes.subarray(count);
      } else {
        const length = lengthOfHeader(bytes);
        if (length === undefined || bytes.length < length) {
          this.#kept = Buffer.from(bytes);
          return;
        }
        const entry = this.#header(bytes.subarray(0, length));
        bytes = bytes.subarray(length);
        if (entry) yield { entry };
      }
    }
  }

  /** @throws NoArchive when the archive has not come to its end */
  end(): void {
    const isWhole = this.#blocksOfZeros >= 2 && this.#kept.length === 0;
    if (!isWhole) throw new NoArchive('it has no end');
  }

  #header(bytes: Buffer): TarEntry | undefined {
    const header = bytes.subarray(0, block);
    if (isZero(header)) {
      // Of which two are the end; some programs fill up the last record with more.
      if (++this.#blocksOfZeros > 20) throw new NoArchive('it goes on behind its end');
      return undefined;
    }
    if (this.#blocksOfZeros > 0) throw new NoArchive('it goes on behind its end');
    check(header);
    const type = typeOf(header);
    const size = numberAt(header, 124, 12);
    const extra = extras[type];
    if (extra === undefined) return this.#entry(header, type, size);
    // Without end, nothing of it would be counted.
    if (this.#extra[extra] !== undefined) throw new NoArchive('it says of an entry the same twice');
    const said = bytes.subarray(block, block + size);
    if (extra === 'modified') this.#extra.modified = timeOf(said);
    else this.#extra[extra] = untilNul(said);
    return undefined;
  }

  #entry(header: Buffer, type: string, size: number): TarEntry {
    const kind = Object.hasOwn(kinds, type) ? kinds[type] : undefined;
    if (kind === undefined) throw new NoArchive('it has an entry of another kind');
    if (kind !== 'file' && size !== 0) throw new NoArchive('it has content where none can be');
    const { name, target, modified } = this.#extra;
    this.#extra = {};
    this.#content = size;
    this.#padding = paddingOf(size);
    return {
      kind,
      name: name ?? untilNul(header.subarray(0, 100)),
      target: kind === 'link' ? (target ?? untilNul(header.subarray(157, 257))) : Buffer.alloc(0),
      size,
      mode: numberAt(header, 100, 8) & 0o777,
      modified: modified ?? numberAt(header, 136, 12),
    };
  }
}

/** With what belongs to it; undefined when too little has come to know. @throws NoArchive */
function lengthOfHeader(bytes: Buffer): number | undefined {
  if (bytes.length < block) return undefined;
  if (extras[typeOf(bytes)] === undefined) return block;
  const size = numberAt(bytes, 124, 12);
  if (size === 0 || size > longestExtra) throw new NoArchive('a name in it is too long');
  return block + size + paddingOf(size);
}

function check(header: Buffer): void {
  let sum = 8 * 0x20;
  for (const [at, byte] of header.entries()) if (at < 148 || at >= 156) sum += byte;
  if (sum !== numberAt(header, 148, 8)) throw new NoArchive('a checksum in it is wrong');
  if (!header.subarray(257, 265).equals(magic)) throw new NoArchive('it is of another format');
}

function typeOf(header: Buffer): string {
  return String.fromCharCode(header[156] ?? 0);
}

function isZero(header: Buffer): boolean {
  return header.every((byte) => byte === 0);
}

function paddingOf(size: number): number {
  return (block - (size % block)) % block;
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return Buffer.from(end === -1 ? bytes : bytes.subarray(0, end));
}

/** Octal digits, or after a first byte of 0x80 the bytes of the number. @throws NoArchive for what is none */
function numberAt(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  let value: number;
  if (field[0] === 0x80) {
    value = field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
  } else {
    const text = field.toString('latin1');
    const digits = /^ *([0-7]*)[ \0]*$/.exec(text)?.[1];
    value = digits === undefined ? Number.NaN : Number.parseInt(digits || '0', 8);
  }
  if (!Number.isSafeInteger(value)) throw new NoArchive('a number in it is none');
  return value;
}

/** What pax says of an entry: its time, and nothing else. */
function timeOf(extra: Buffer): number {
  const said = /^\d+ mtime=(-?\d{1,20}(?:\.\d{1,9})?)\n$/.exec(extra.toString('latin1'))?.[1];
  if (said === undefined) throw new NoArchive('it says of an entry what cannot be');
  return Number(said);
}
