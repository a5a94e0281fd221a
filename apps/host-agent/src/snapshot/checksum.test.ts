import { execFile } from 'node:child_process';
import { open, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { takeRoom } from '../linux/index.ts';
import { type FileSum, FileSummer, maxExtentBytes, sumFile, verifyBytes, verifyFile } from './checksum.ts';
import { SnapshotDamaged } from './damaged.ts';
import { damage, fc, property, temporaryDirectory } from './testing.ts';

const KiB = 1024;

property.prop([fc.array(fc.uint8Array({ maxLength: 50 }))])(
  'the cuts of a stream do not show in its sum',
  (parts) => {
    const whole = Buffer.concat(parts);
    const summer = new FileSummer();
    let at = 0;
    for (const part of parts) {
      summer.add(at, Buffer.from(part));
      at += part.length;
    }
    expect(summer.finish(whole.length)).toEqual({
      length: whole.length,
      extents: whole.length === 0 ? [] : [[0, whole.length, crc32(whole)]],
    });
  },
);

test('extents have a longest length, small holes are part of them, large ones are not', () => {
  const summer = new FileSummer();
  const bytes = Buffer.alloc(4096, 1);
  summer.add(8192, bytes);
  summer.add(64 * KiB, bytes);
  summer.add(1024 * KiB, bytes);
  const { extents } = summer.finish(2048 * KiB);
  expect(extents.map(([offset, length]) => [offset, length])).toEqual([
    [8192, 60 * KiB],
    [1024 * KiB, 4096],
  ]);
  const joined = Buffer.concat([bytes, Buffer.alloc(52 * KiB), bytes]);
  expect(extents[0]?.[2]).toBe(crc32(joined));

  const long = new FileSummer();
  const large = Buffer.alloc(maxExtentBytes + 4096, 7);
  long.add(0, large);
  expect(long.finish(large.length).extents).toEqual([
    [0, maxExtentBytes, crc32(large.subarray(4096))],
    [maxExtentBytes, 4096, crc32(large.subarray(0, 4096))],
  ]);
});

test('room that was taken and never written is not read, whatever is read ahead of it', async () => {
  await using dir = await temporaryDirectory();
  const path = join(dir.path, 'rootfs.cow');
  const room = 512 * 1024 * KiB;
  await using file = await open(path, 'w+');
  await takeRoom(file.fd, room);
  // As a loop device does it, past the page cache: what is there counts as data, read ahead or not.
  const to = [`of=${path}`, 'bs=1M', 'oflag=direct', 'conv=notrunc', 'status=none'];
  for (const at of [0, 100])
    await promisify(execFile)('dd', ['if=/dev/zero', 'count=1', `seek=${at}`, ...to]);
  const { extents } = await sumFile(path, 'rootfs.cow');
  // Windows of the search end behind what is read ahead.
  const sum = extents.reduce((bytes, [, length]) => bytes + length, 0);
  expect(sum).toBeGreaterThanOrEqual(2 * 1024 * KiB);
  expect(sum).toBeLessThan(24 * 1024 * KiB);
});

test('a sparse file is summed up by its data, and a wrong byte is found in data and in holes', async () => {
  await using dir = await temporaryDirectory();
  const path = join(dir.path, 'memfile');
  await using file = await open(path, 'w+');
  await file.truncate(2 ** 40);
  await file.write(Buffer.alloc(65_536, 1), 0, 65_536, 2 ** 30);
  await file.write(Buffer.alloc(65_536, 2), 0, 65_536, 2 ** 35);
  const sum = await sumFile(path, 'memfile');
  expect(sum.extents.map(([offset, length]) => [offset, length])).toEqual([
    [2 ** 30, 65_536],
    [2 ** 35, 65_536],
  ]);
  await verifyFile(path, 'memfile', sum);

  const poke = (at: number, byte: number) => file.write(Buffer.from([byte]), 0, 1, at);
  await poke(2 ** 35 + 5, 3);
  await expect(verifyFile(path, 'memfile', sum)).rejects.toThrow(
    `memfile is not what was written between ${2 ** 35} and ${2 ** 35 + 65_536}`,
  );
  await poke(2 ** 35 + 5, 2);
  for (const hole of [0, 2 ** 33, 2 ** 40 - 1]) {
    await poke(hole, 1);
    await expect(verifyFile(path, 'memfile', sum)).rejects.toThrow(
      /has data at \d+, where none were written/,
    );
    await poke(hole, 0);
  }
  // A hole that another program has filled with zeros still reads as it did.
  await verifyFile(path, 'memfile', sum);
  await file.truncate(2 ** 39);
  await expect(verifyFile(path, 'memfile', sum)).rejects.toThrow(SnapshotDamaged);
});

const valid = Buffer.from('small file');
property.prop([damage(valid)])('a small file is held against its sum in memory', (bytes) => {
  const sum: FileSum = { length: valid.length, extents: [[0, valid.length, crc32(valid)]] };
  verifyBytes(valid, 'rootfs.meta', sum);
  expect(() => verifyBytes(bytes, 'rootfs.meta', sum)).toThrow(SnapshotDamaged);
});

test('holes of a small file are part of what is checked', () => {
  const bytes = Buffer.alloc(300_000);
  bytes.fill(1, 0, 10).fill(1, 200_000, 200_010);
  const summer = new FileSummer();
  summer.add(0, bytes.subarray(0, 10));
  summer.add(200_000, bytes.subarray(200_000, 200_010));
  const sum = summer.finish(bytes.length);
  verifyBytes(bytes, 'memfile.header', sum);
  for (const at of [5, 100_000, 200_005, 299_999]) {
    const wrong = Buffer.from(bytes);
    wrong[at] = 9;
    expect(() => verifyBytes(wrong, 'memfile.header', sum)).toThrow(SnapshotDamaged);
  }
});

test('what is not a regular file is not followed and does not block', async () => {
  await using dir = await temporaryDirectory();
  await writeFile(join(dir.path, 'real'), 'x');
  await symlink('real', join(dir.path, 'memfile'));
  await expect(sumFile(join(dir.path, 'memfile'), 'memfile')).rejects.toThrow(
    'memfile is not a regular file',
  );
  await expect(sumFile(dir.path, 'memfile')).rejects.toThrow('memfile is not a regular file');
  await expect(sumFile(join(dir.path, 'none'), 'memfile')).rejects.toThrow('memfile is missing');
});
