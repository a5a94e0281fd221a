import { spawnSync } from 'node:child_process';
import { mkdir, mkdtempDisposable, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NoArchive, type TarEntry, TarReader } from './tar-reader.ts';
import { archiveEnd, archiveOf, entryOf, type Said, withChecksum } from './testing/tar.ts';

interface Read extends TarEntry {
  content: string;
}

/** In pieces of these lengths, again and again. */
function readAll(archive: Buffer, pieces: readonly number[] = [archive.length]): Read[] {
  const reader = new TarReader();
  const found: Read[] = [];
  for (let at = 0, turn = 0; at < archive.length; turn++) {
    const length = Math.max(1, pieces[turn % pieces.length] ?? 1);
    for (const part of reader.push(archive.subarray(at, at + length))) {
      const last = found.at(-1);
      if ('entry' in part) found.push({ ...part.entry, content: '' });
      else if (last) last.content += part.content.toString('latin1');
    }
    at += length;
  }
  reader.end();
  return found;
}

const long = 'l'.repeat(150);
const tree: Said[] = [
  { name: './', type: '5', mode: 0o755 },
  { name: `${long}/`, type: '5', pax: '29 mtime=1000000000.123456789\n' },
  { name: Buffer.from([0x63, 0xe9]), content: 'x'.repeat(1000), mode: 0o6750 },
  { name: 'link', type: '2', target: '../up' },
  { name: 'far', type: '2', target: long },
  { name: 'pipe', type: '6' },
];

property.prop([fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1 })])(
  'an archive is the same in whatever pieces it comes',
  (pieces) => {
    const archive = archiveOf(...tree);
    const found = readAll(archive, pieces);
    expect(found).toEqual(readAll(archive));
    expect(found.map(({ kind, name, mode }) => [kind, name.toString('latin1'), mode])).toEqual([
      ['directory', './', 0o755],
      ['directory', `${long}/`, 0o644],
      ['file', 'c\xe9', 0o750],
      ['link', 'link', 0o644],
      ['link', 'far', 0o644],
      ['other', 'pipe', 0o644],
    ]);
    expect(found.map(({ target }) => String(target))).toEqual(['', '', '', '../up', long, '']);
    expect(found[1]?.modified).toBeCloseTo(1_000_000_000.123_456_8, 6);
    expect(found[2]?.content).toBe('x'.repeat(1000));
  },
);

test('an archive of GNU tar is read', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-tar-'));
  await mkdir(join(dir.path, long));
  await writeFile(join(dir.path, long, 'n'.repeat(200)), 'content');
  await symlink('t'.repeat(300), join(dir.path, 'link'));
  const { stdout } = spawnSync('tar', ['--create', '--format=gnu', '--directory', dir.path, '.']);
  const found = readAll(stdout);
  expect(found.map(({ name }) => String(name)).sort()).toEqual([
    './',
    './link',
    `./${long}/`,
    `./${long}/${'n'.repeat(200)}`,
  ]);
  expect(found.find(({ kind }) => kind === 'file')?.content).toBe('content');
});

const file = entryOf({ name: 'a', content: 'content' });
const changed = (change: (header: Buffer) => void, sum = true) => {
  const header = Buffer.from(file);
  change(header);
  if (sum) withChecksum(header.subarray(0, 512));
  return header;
};

/** Says a time of an entry that does not come. */
const extraOnly = entryOf({ name: 'a', pax: '11 mtime=1\n' }).subarray(0, 1024);

test.each<[string, Buffer]>([
  ['is nothing', Buffer.alloc(0)],
  ['has no end', file],
  ['ends in content', file.subarray(0, 520)],
  ['ends in a header', Buffer.concat([file, file.subarray(0, 100)])],
  ['has half an end', Buffer.concat([file, archiveEnd.subarray(512)])],
  ['goes on behind its end', Buffer.concat([archiveEnd, file, archiveEnd])],
  ['has zeros behind its end', Buffer.alloc(100 * 512)],
  ['has a wrong checksum', changed((header) => header.write('b'), false)],
  ['is of another format', changed((header) => header.write('ustar\x0000', 257, 'latin1'))],
  ['has a negative size', changed((header) => header.fill(0xff, 124, 136))],
  ['has a size that is too large', changed((header) => header.fill(0x80, 124, 136))],
  ['has a size that is no number', changed((header) => header.write('12x', 124))],
  ['has a hard link', archiveOf({ name: 'a', type: '1', target: 'b' })],
  ['has a header for all entries', archiveOf({ name: 'a', type: 'g', content: '11 path=/x\n' })],
  ['has a directory with content', archiveOf({ name: 'a/', type: '5', content: 'x' })],
  ['has a link with content', archiveOf({ name: 'a', type: '2', content: 'x', target: 'b' })],
  ['has a path by pax', archiveOf({ name: 'a', pax: '16 path=../../x\n' })],
  ['has a record of a negative length', archiveOf({ name: 'a', pax: '-16 mtime=123456\n' })],
  ['has a name that is too long', archiveOf({ name: 'n'.repeat(9000) })],
  ['is of extra headers without end', Buffer.concat(Array(3).fill(extraOnly))],
  ['is of a device with content', archiveOf({ name: 'a', type: '3', content: 'x' })],
  ['has a sparse file', archiveOf({ name: 'a', type: 'S', content: 'x', size: 2 ** 33 })],
  ['goes on with another volume', archiveOf({ name: 'a', type: 'M', content: 'x' })],
  ['has a list of names', archiveOf({ name: 'a', type: 'D', content: 'Yx\0\0' })],
  ['has a size by pax', archiveOf({ name: 'a', pax: '12 size=9999\n' })],
  ['has a sparse file by pax', archiveOf({ name: 'a', pax: '22 GNU.sparse.major=1\n' })],
  ['has two times', archiveOf({ name: 'a', pax: '11 mtime=1\n11 mtime=2\n' })],
  ['has a time that is no number', archiveOf({ name: 'a', pax: '13 mtime=NaN\n' })],
  ['has a time of many digits', archiveOf({ name: 'a', pax: `99 mtime=${'9'.repeat(80)}\n` })],
  ['has a name of no end', Buffer.concat([entryOf({ name: 'x', type: 'L', size: 2 ** 40 }), archiveEnd])],
])('an archive that %s is none', (_, archive) => {
  expect(() => readAll(archive, [300])).toThrow(NoArchive);
});

property.prop([fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.nat(2000), fc.boolean()])(
  'whatever bytes a guest puts into an archive, it is read or refused',
  (bytes, at, sum) => {
    const archive = archiveOf(...tree);
    archive.set(bytes.subarray(0, Math.max(0, archive.length - at)), at);
    if (sum) withChecksum(archive.subarray(at - (at % 512), at - (at % 512) + 512));
    try {
      readAll(archive, [700]);
    } catch (error) {
      expect(error).toBeInstanceOf(NoArchive);
    }
  },
);
