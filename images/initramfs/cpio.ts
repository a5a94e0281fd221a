/** One member of a cpio archive. */
export type CpioEntry =
  | { path: string; type: 'file'; mode: number; content: Uint8Array }
  | { path: string; type: 'directory'; mode: number }
  | { path: string; type: 'character device'; mode: number; major: number; minor: number };

const TYPE_BITS = { file: 0o100000, directory: 0o040000, 'character device': 0o020000 } as const;

/**
 * Writes a "newc" cpio archive, the format of an initramfs, owned by root and dated 0.
 * Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 * @param entries with each directory before what it holds, and paths without a leading slash
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const members = entries.map((entry, index) => member(entry, index + 1));
  return Buffer.concat([
    ...members,
    member({ path: 'TRAILER!!!', type: 'file', mode: 0, content: Buffer.alloc(0) }, 0),
  ]);
}

function member(entry: CpioEntry, inode: number): Buffer {
  const content = entry.type === 'file' ? entry.content : Buffer.alloc(0);
  const device = entry.type === 'character device' ? [entry.major, entry.minor] : [0, 0];
  const mode = inode === 0 ? 0 : TYPE_BITS[entry.type] | entry.mode;
  const links = entry.type === 'directory' ? 2 : 1;
  const name = Buffer.from(`${entry.path}\0`);
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, ...device, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([pad(Buffer.concat([Buffer.from(header), name])), pad(Buffer.from(content))]);
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
