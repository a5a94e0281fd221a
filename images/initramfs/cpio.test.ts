import { expect, test } from 'vitest';
import { cpioArchive } from './cpio.ts';

test('an archive has the layout that the kernel unpacks', () => {
  const archive = cpioArchive([
    { path: 'dev', type: 'directory', mode: 0o755 },
    { path: 'dev/console', type: 'character device', mode: 0o600, major: 5, minor: 1 },
    { path: 'init', type: 'file', mode: 0o755, content: Buffer.from('hello') },
  ]);
  const members = parse(archive);
  expect(members).toEqual([
    { path: 'dev', mode: 0o40755, device: [0, 0], content: '' },
    { path: 'dev/console', mode: 0o20600, device: [5, 1], content: '' },
    { path: 'init', mode: 0o100755, device: [0, 0], content: 'hello' },
    { path: 'TRAILER!!!', mode: 0, device: [0, 0], content: '' },
  ]);
});

/** Reads an archive by the offsets of the format's description. */
function parse(archive: Buffer) {
  const members = [];
  for (let at = 0; at < archive.length; ) {
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const start = at;
    const field = (index: number) =>
      Number.parseInt(archive.toString('latin1', start + 6 + index * 8, start + 14 + index * 8), 16);
    const path = archive.toString('latin1', at + 110, at + 110 + field(11) - 1);
    const body = (at + 110 + field(11) + 3) & ~3;
    const content = archive.toString('latin1', body, body + field(6));
    members.push({ path, mode: field(1), device: [field(9), field(10)], content });
    at = (body + field(6) + 3) & ~3;
  }
  return members;
}
