import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createQcow2Layer, maxLayers, maxSizes } from './layer.ts';

const MiB = 2 ** 20;

/** A VM's directory and a base image, removed at the end of the test. */
function setUp(options: { mode?: number } = {}) {
  const root = mkdtempSync(join(tmpdir(), 'perch-layer-'));
  const base = join(root, 'template.ext4');
  writeFileSync(base, Buffer.alloc(MiB, 'a'), { mode: options.mode ?? 0o444 });
  const dir = mkdtempSync(join(root, 'vm-'));
  const uid = process.getuid?.() === 0 ? 70_001 : (process.getuid?.() ?? 0);
  return {
    spec: { base, dir, uid, sizeBytes: 16 * MiB },
    [Symbol.dispose]: () => rmSync(root, { recursive: true }),
  };
}

describe('a qcow2 layer', () => {
  const layer = createQcow2Layer();

  test('belongs to the VM and refers to a link of the base beside it', async () => {
    using it = setUp();
    const disk = await layer.create(it.spec);
    const overlay = statSync(disk.path);
    expect({ mode: overlay.mode & 0o777, uid: overlay.uid }).toEqual({ mode: 0o600, uid: it.spec.uid });
    expect(statSync(disk.base ?? '').ino).toBe(statSync(it.spec.base).ino);
    expect(await layer.open(it.spec)).toEqual(disk);
  });

  test('is never made twice, and the second attempt leaves the first alone', async () => {
    using it = setUp();
    const { path } = await layer.create(it.spec);
    writeFileSync(path, 'precious');
    await expect(layer.create(it.spec)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(statSync(path).size).toBe('precious'.length);
    expect(await layer.open(it.spec)).toMatchObject({ path });
  });

  test('gets no more layers than can be opened in time', async () => {
    using it = setUp();
    await layer.create(it.spec);
    for (let has = 1; has < maxLayers; has++) await layer.add(it.spec);
    await expect(layer.add(it.spec)).rejects.toThrow(`has ${maxLayers} layers`);
    expect(await layer.layers(it.spec)).toHaveLength(maxLayers);
  });

  test('gets no more layers when those it has occupy too much', async () => {
    using it = setUp();
    const { sizeBytes } = it.spec;
    const lower = join(it.spec.dir, 'lower-0.qcow2');
    writeFileSync(lower, Buffer.alloc(sizeBytes, 'x'));
    const { path } = await layer.create(it.spec);
    const tables = await layer.writtenBytes(it.spec);
    writeFileSync(path, Buffer.alloc(sizeBytes - 2 * tables, 'x'), { flag: 'a' });
    const next = await layer.add(it.spec);
    expect(await layer.fullBy([lower, path, next], sizeBytes)).toBe(undefined);
    writeFileSync(next, Buffer.alloc(tables, 'x'), { flag: 'a' });
    await expect(layer.add(it.spec)).rejects.toThrow(`more than ${maxSizes} times its size`);
    expect(await layer.fullBy([lower, path], sizeBytes)).toBe(undefined);
  });

  test('tells what was written to it, and of an empty one above it nothing', async () => {
    using it = setUp();
    expect(await layer.writtenBytes(it.spec)).toBe(0);
    const { path } = await layer.create(it.spec);
    const empty = await layer.writtenBytes(it.spec);
    writeFileSync(path, Buffer.alloc(2 * MiB, 'x'), { flag: 'a' });
    expect(await layer.writtenBytes(it.spec)).toBe(empty + 2 * MiB);
    await layer.add(it.spec);
    expect(await layer.writtenBytes(it.spec)).toBe(empty);
  });

  test('is removed as often as asked, and is then not there', async () => {
    using it = setUp();
    await layer.create(it.spec);
    await layer.remove(it.spec);
    await layer.remove(it.spec);
    await expect(layer.open(it.spec)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(statSync(it.spec.base).nlink).toBe(1);
  });

  test('is refused over a base that is larger or that its VM could write or not read', async () => {
    using small = setUp();
    await expect(layer.create({ ...small.spec, sizeBytes: MiB / 2 })).rejects.toThrow(
      /smaller than its base/,
    );
    using writable = setUp({ mode: 0o644 });
    await expect(layer.create(writable.spec)).rejects.toThrow(/not 444/);
    await expect(layer.open(writable.spec)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
