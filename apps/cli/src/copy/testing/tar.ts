/** Archives as the guest agent makes them, and as a hostile guest may. */

export interface Said {
  name: string | Buffer;
  type?: string;
  target?: string | Buffer;
  content?: string | Buffer;
  /** That it states, when it is another than that of the content. */
  size?: number;
  mode?: number;
  mtime?: number;
  /** What pax says of it. */
  pax?: string;
}

const block = 512;

export const archiveEnd = Buffer.alloc(2 * block);

export function archiveOf(...entries: readonly Said[]): Buffer {
  return Buffer.concat([...entries.map(entryOf), archiveEnd]);
}

export function entryOf({ name, type = '0', target = '', content = '', pax, ...more }: Said): Buffer {
  const [path, link, bytes] = [Buffer.from(name), Buffer.from(target), Buffer.from(content)];
  const { size = bytes.length, mode = 0o644, mtime = 981_173_106 } = more;
  const extras = [
    ...(pax === undefined ? [] : [extra('x', 'pax', Buffer.from(pax))]),
    ...(link.length > 100 ? [extra('K', '././@LongLink', Buffer.concat([link, Buffer.alloc(1)]))] : []),
    ...(path.length > 100 ? [extra('L', '././@LongLink', Buffer.concat([path, Buffer.alloc(1)]))] : []),
  ];
  return Buffer.concat([...extras, headerOf({ type, path, link, size, mode, mtime }), padded(bytes)]);
}

function extra(type: string, name: string, content: Buffer): Buffer {
  const about = { type, path: Buffer.from(name), link: Buffer.alloc(0), mode: 0, mtime: 0 };
  return Buffer.concat([headerOf({ ...about, size: content.length }), padded(content)]);
}

function headerOf(of: {
  type: string;
  path: Buffer;
  link: Buffer;
  size: number;
  mode: number;
  mtime: number;
}): Buffer {
  const header = Buffer.alloc(block);
  of.path.copy(header, 0, 0, 100);
  header.write(octal(of.mode, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  if (of.size < 8 ** 11) header.write(octal(of.size, 11), 124);
  else {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(of.size), 128);
  }
  header.write(octal(of.mtime, 11), 136);
  header.write(of.type, 156, 'latin1');
  of.link.copy(header, 157, 0, 100);
  header.write('ustar  \0', 257, 'latin1');
  return withChecksum(header);
}

export function withChecksum(header: Buffer): Buffer {
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)}\0 `, 148, 'latin1');
  return header;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((block - (bytes.length % block)) % block)]);
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
