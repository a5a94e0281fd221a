import { link, readdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { describe, expect, test } from 'vitest';
import { sumFile } from './checksum.ts';
import { commitSnapshot, sealSnapshot } from './commit.ts';
import { SnapshotDamaged } from './damaged.ts';
import { decodeHeader, writeHeader } from './header.ts';
import { SnapshotDirectory } from './layout.ts';
import { openSnapshot, readManifest, readSnapshotJson, verifySnapshot } from './snapshot.ts';
import { build, facts, fc, fillDirectory, property, temporaryDirectory } from './testing.ts';

async function committed() {
  const dir = await temporaryDirectory();
  const temporary = await fillDirectory(join(dir.path, '.temporary'));
  const final = new SnapshotDirectory(join(dir.path, 'final'));
  const manifest = await commitSnapshot({ temporary, final, facts });
  return {
    root: dir.path,
    temporary,
    final,
    manifest,
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

describe('a commit', () => {
  test('gives a snapshot that is whole, under its name', async () => {
    await using it = await committed();
    expect(await readdir(it.root)).toEqual(['final']);
    const { manifest, header, rootfs } = await verifySnapshot(it.final);
    expect(manifest).toEqual(it.manifest);
    expect(manifest).toMatchObject(facts);
    expect(Object.keys(manifest.files).sort()).toEqual(
      (await readdir(it.final.path)).filter((name) => name !== 'manifest.json').sort(),
    );
    expect(header).toMatchObject({ generation: 1, build: build(2), baseBuild: build(1) });
    expect(rootfs).toMatchObject({ base_template: 'base', format: 'qcow2' });
    expect((await stat(it.final.file('manifest.json'))).mode & 0o777).toBe(0o600);
  });

  test('takes the sums that it is given, and reads those files no more', async () => {
    await using dir = await temporaryDirectory();
    const directory = await fillDirectory(join(dir.path, 'snapshot'));
    const sum = { length: 4096, extents: [[0, 4096, 42]] as [number, number, number][] };
    expect((await sealSnapshot(directory, facts, { memfile: sum })).files.memfile).toEqual(sum);
    await expect(verifySnapshot(directory)).rejects.toThrow(/^memfile is not what was written/);
    const wrong = { ...sum, length: 8192 };
    await expect(sealSnapshot(directory, facts, { memfile: wrong })).rejects.toThrow(
      /has 4096 bytes, and its checksum is of 8192/,
    );
    await expect(sealSnapshot(directory, facts, { 'rootfs.ext4': sum })).rejects.toThrow(
      /checksum of rootfs.ext4/,
    );
  });

  test('sums up what the files themselves say', async () => {
    await using it = await committed();
    expect(it.manifest.files['rootfs.base']).toEqual(
      await sumFile(it.final.file('rootfs.base'), 'rootfs.base'),
    );
  });

  test('never takes the place of a snapshot that is there', async () => {
    await using it = await committed();
    const second = await fillDirectory(join(it.root, '.temporary'));
    await expect(commitSnapshot({ temporary: second, final: it.final, facts })).rejects.toMatchObject({
      code: expect.stringMatching(/ENOTEMPTY|EEXIST/),
    });
    await verifySnapshot(it.final);
  });

  test('refuses what no snapshot holds, and what is not all of one', async () => {
    await using dir = await temporaryDirectory();
    const directory = await fillDirectory(join(dir.path, 'snapshot'));
    await writeFile(join(directory.path, 'notes.txt'), 'x');
    await expect(sealSnapshot(directory, facts)).rejects.toThrow(/notes.txt is not a file of a snapshot/);
    await rm(join(directory.path, 'notes.txt'));
    await symlink('memfile', directory.file('rootfs.ext4'));
    await expect(sealSnapshot(directory, facts)).rejects.toThrow(/rootfs.ext4 is not a file of a snapshot/);
    await rm(directory.file('rootfs.ext4'));
    await rm(directory.file('snapfile'));
    await expect(sealSnapshot(directory, facts)).rejects.toThrow(SnapshotDamaged);
    await expect(readManifest(directory)).rejects.toThrow('manifest.json is missing');
  });
});

describe('a snapshot is not opened', () => {
  const broken: [string, (directory: SnapshotDirectory) => Promise<unknown>, RegExp][] = [
    ['without its manifest', (it) => rm(it.file('manifest.json')), /^manifest.json is missing/],
    ['where there is none', (it) => rm(it.path, { recursive: true }), /^manifest.json is missing/],
    ['without its memory', (it) => rm(it.file('memfile')), /^memfile is missing/],
    [
      'without the memory of an ancestor',
      (it) => rm(it.file(`memfile.${build(1)}`)),
      /^memfile.0+1 is missing/,
    ],
    [
      'with a file cut off',
      (it) => truncate(it.file('rootfs.base'), 10),
      /^rootfs.base has 10 bytes instead of 65536/,
    ],
    [
      'with a file grown',
      (it) => writeFile(it.file('rootfs.cow'), 'x', { flag: 'a' }),
      /^rootfs.cow has 6 bytes/,
    ],
    [
      'with a link for a file',
      async (it) => {
        await rename(it.file('memfile'), join(it.path, 'elsewhere'));
        await symlink('elsewhere', it.file('memfile'));
      },
      /^memfile is not a regular file/,
    ],
    [
      'with a file that nobody summed up',
      (it) => writeFile(it.file('rootfs.ext4'), 'x'),
      /^rootfs.ext4 is not in the manifest/,
    ],
    [
      'with another header of the same length',
      async (it) => {
        const bytes = await readFile(it.file('memfile.header'));
        bytes[96] = (bytes[96] as number) ^ 0x10;
        await writeFile(it.file('memfile.header'), bytes);
      },
      /^memfile.header is not what was written/,
    ],
    [
      'with other metadata of the same length',
      async (it) => {
        const text = await readFile(it.file('rootfs.meta'), 'utf8');
        await writeFile(it.file('rootfs.meta'), text.replace('"base"', '"vase"'));
      },
      /^rootfs.meta is not what was written/,
    ],
  ];
  test.each(broken)('%s', async (_, damage, message) => {
    await using it = await committed();
    await damage(it.final);
    const error = await openSnapshot(it.final).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(SnapshotDamaged);
    expect((error as SnapshotDamaged).message).toMatch(message);
    const perch = (error as SnapshotDamaged).toPerchError('sbx');
    expect(perch).toMatchObject({
      code: 'snapshot_damaged',
      details: { id: 'sbx', reason: expect.stringMatching(message) },
    });
  });

  test.each<[string, Partial<typeof facts>, RegExp]>([
    ['of another build than its header', { build_id: build(7) }, /^memfile.header is of build/],
    [
      'of another memory than its header',
      { machine: { ...facts.machine, memory_mb: 2 } },
      /^memfile.header maps/,
    ],
    [
      'of another kind of disk than its disk',
      { disk: { format: 'image' } },
      /^rootfs.meta is of a disk of the format qcow2/,
    ],
  ])('%s', async (_, change, message) => {
    await using dir = await temporaryDirectory();
    const directory = await fillDirectory(join(dir.path, 'snapshot'));
    await sealSnapshot(directory, { ...facts, ...change });
    await expect(openSnapshot(directory)).rejects.toThrow(message);
  });

  test('whose files are shorter than its header says, or not there', async () => {
    await using dir = await temporaryDirectory();
    const directory = await fillDirectory(join(dir.path, 'snapshot'));
    await truncate(directory.file(`memfile.${build(1)}`), 4096);
    await sealSnapshot(directory, facts);
    await expect(openSnapshot(directory)).rejects.toThrow(
      /^memfile.0+1 has 4096 bytes, and memfile.header needs 16384/,
    );
    await rm(directory.file(`memfile.${build(1)}`));
    await sealSnapshot(directory, facts);
    await expect(openSnapshot(directory)).rejects.toThrow(
      /^memfile.0+1 is missing, and memfile.header needs it/,
    );
  });
});

test('a byte that changed anywhere is found when all is verified', async () => {
  await using it = await committed();
  await writeFile(it.final.file('memfile'), Buffer.alloc(4096, 3));
  await openSnapshot(it.final);
  await expect(verifySnapshot(it.final)).rejects.toThrow(
    'memfile is not what was written between 0 and 4096',
  );
});

test('secrets are read as what was committed', async () => {
  await using it = await committed();
  const opened = await openSnapshot(it.final);
  const schema = Type.Object({ token: Type.String() });
  expect(await readSnapshotJson(opened, 'identity.json', schema)).toEqual({ token: 'secret' });
  await expect(readSnapshotJson(opened, 'identity.json', schema, 5)).rejects.toThrow(
    /more than the 5 allowed/,
  );
  await expect(readSnapshotJson(opened, 'identity.json', Type.Object({ id: Type.String() }))).rejects.toThrow(
    /^identity.json is not what it should be/,
  );
  await expect(readSnapshotJson(opened, 'rootfs.ext4', schema)).rejects.toThrow('rootfs.ext4 is missing');
});

test('a snapshot lives on the files of its ancestors when they are gone', async () => {
  await using it = await committed();
  const child = await fillDirectory(join(it.root, '.child'));
  await rm(child.file('rootfs.base'));
  await link(it.final.file('rootfs.base'), child.file('rootfs.base'));
  const final = new SnapshotDirectory(join(it.root, 'child'));
  const { 'rootfs.base': base } = it.manifest.files;
  await commitSnapshot({ temporary: child, final, facts, sums: base ? { 'rootfs.base': base } : {} });
  await it.final.remove();
  await verifySnapshot(final);
});

property.prop([fc.nat(), fc.nat(255)], { numRuns: 60 })(
  'a flipped header never opens as another memory',
  async (at, mask) => {
    await using dir = await temporaryDirectory();
    const directory = await fillDirectory(join(dir.path, 'snapshot'));
    await sealSnapshot(directory, facts);
    const bytes = await readFile(directory.file('memfile.header'));
    bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ (mask || 1);
    await writeFile(directory.file('memfile.header'), bytes);
    await expect(openSnapshot(directory)).rejects.toThrow(SnapshotDamaged);
  },
);

property.prop([fc.nat(), fc.nat(), fc.constantFrom('change', 'cut', 'grow')], { numRuns: 100 })(
  'no damage to any file goes unnoticed when all is verified',
  async (which, at, how) => {
    await using it = await committed();
    const names = await readdir(it.final.path);
    const path = it.final.file(names[which % names.length] as string);
    const bytes = await readFile(path);
    if (how === 'change') bytes[at % bytes.length] = (bytes[at % bytes.length] as number) ^ 1;
    const damaged = {
      change: bytes,
      cut: bytes.subarray(0, at % bytes.length),
      grow: Buffer.concat([bytes, bytes]),
    };
    await writeFile(path, damaged[how]);
    await expect(verifySnapshot(it.final)).rejects.toThrow(SnapshotDamaged);
  },
);

test('a header is put in place whole', async () => {
  await using dir = await temporaryDirectory();
  const directory = await fillDirectory(join(dir.path, 'snapshot'));
  const header = decodeHeader(await readFile(directory.file('memfile.header')));
  await writeHeader(directory, { ...header, generation: 5 });
  expect(decodeHeader(await readFile(directory.file('memfile.header'))).generation).toBe(5);
  expect((await readdir(directory.path)).some((name) => name.endsWith('.new'))).toBe(false);
});
