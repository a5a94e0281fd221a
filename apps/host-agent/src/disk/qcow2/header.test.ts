import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { emptyOverlay, maxDiskBytes, maxOverlayBytes } from './header.ts';

const MiB = 2 ** 20;
const hasQemuImg = (() => {
  try {
    execFileSync('qemu-img', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

const dir = mkdtempSync(join(tmpdir(), 'perch-qcow2-'));
afterAll(() => rmSync(dir, { recursive: true }));

function write(name: string, diskBytes: number, backing = 'base.ext4'): string {
  const image = emptyOverlay(diskBytes, backing);
  const bytes = Buffer.alloc(image.fileBytes);
  for (const part of image.parts) part.bytes.copy(bytes, part.offset);
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

const qemuImg = (...args: string[]) => JSON.parse(execFileSync('qemu-img', args, { encoding: 'utf8' }));

const diskSizes = fc.integer({ min: 1, max: maxDiskBytes / 512 }).map((sectors) => sectors * 512);

describe.runIf(hasQemuImg)('an empty overlay, as QEMU sees it', () => {
  writeFileSync(join(dir, 'base.ext4'), Buffer.alloc(MiB, 'a'));

  property.prop([diskSizes], { numRuns: 25 })('has no errors and no leaks, whatever its size', (size) => {
    const path = write('sizes.qcow2', size);
    const check = qemuImg('check', '--output=json', '-f', 'qcow2', path);
    expect(check).toMatchObject({ 'check-errors': 0, 'image-end-offset': 4 * 65536 });
    expect(check.corruptions).toBeUndefined();
    expect(check.leaks).toBeUndefined();
  });

  test('is described as what it is', () => {
    const info = qemuImg('info', '--output=json', '-f', 'qcow2', write('info.qcow2', 64 * MiB));
    expect(info).toMatchObject({
      format: 'qcow2',
      'virtual-size': 64 * MiB,
      'cluster-size': 65536,
      'backing-filename': 'base.ext4',
      'backing-filename-format': 'raw',
      'dirty-flag': false,
    });
    expect(info['format-specific'].data).toMatchObject({
      compat: '1.1',
      'lazy-refcounts': false,
      'refcount-bits': 16,
      corrupt: false,
      'extended-l2': false,
      'compression-type': 'zlib',
    });
  });

  test('reads as its base, then zeros; takes writes; stays below its bound', () => {
    const size = 64 * MiB;
    const path = write('io.qcow2', size);
    const io = (...commands: string[]) =>
      execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((c) => ['-c', c]), path], {
        encoding: 'utf8',
      });
    expect(io('read -P 0x61 0 1M', 'read -P 0 1M 63M')).not.toContain('failed');
    expect(io(`write -P 0x62 0 ${size}`, `read -P 0x62 0 ${size}`)).not.toContain('failed');
    const check = qemuImg('check', '--output=json', '-f', 'qcow2', path);
    expect(check['check-errors']).toBe(0);
    expect(check['image-end-offset']).toBeGreaterThan(size);
    expect(check['image-end-offset']).toBeLessThan(maxOverlayBytes(size));
  });
});

property.prop([diskSizes])(
  'the bound of the file lies above the disk, by less than 1 % and 20 MiB',
  (size) => {
    const bound = maxOverlayBytes(size);
    expect(bound).toBeGreaterThan(size + size / 8192);
    expect(bound).toBeLessThan(size * 1.01 + 20 * MiB);
  },
);

test('sizes and names that the format cannot hold are refused', () => {
  for (const size of [0, -512, 511, 513, 0.5, Number.NaN, maxDiskBytes + 512]) {
    expect(() => emptyOverlay(size, 'base.ext4')).toThrow(RangeError);
    expect(() => maxOverlayBytes(size)).toThrow(RangeError);
  }
  expect(() => emptyOverlay(512, '')).toThrow(RangeError);
  expect(() => emptyOverlay(512, 'x'.repeat(1024))).toThrow(RangeError);
});
