import { createHash } from 'node:crypto';
import { chmod, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  commitSnapshot,
  createMapping,
  type DirtyRun,
  type ManifestFacts,
  mergeMapping,
  openSnapshot,
  SnapshotDirectory,
  verifySnapshot,
  writeHeader,
} from '../../../snapshot/index.ts';
import {
  build,
  contentId,
  facts,
  fc,
  property,
  randomBytes,
  temporaryDirectory,
} from '../../../snapshot/testing.ts';
import { DiskRoom } from '../../journal/disk-room.ts';
import { importSnapshot } from './index.ts';
import type { ImportHost, ImportRequest } from './request.ts';

const MiB = 2 ** 20;
const page = 4096;
const memoryBytes = 128 * MiB;
const base = Buffer.alloc(65_536, 3);
const baseId = createHash('sha256').update(base).digest('hex');

const filled = (letter: string, pages: number) => Buffer.alloc(pages * page, letter);
const run = (first: number, pages: number, stored: number | null): DirtyRun => ({
  ...{ offset: first * page, length: pages * page },
  storageOffset: stored === null ? null : stored * page,
});

/** Three builds, none of them with its pages at their places: pages 0-3 are `a?bc`, `?` zeros; 4-5 are `aa`. */
async function older(path: string): Promise<SnapshotDirectory> {
  const directory = new SnapshotDirectory(path);
  await directory.ensure();
  const first = createMapping(memoryBytes, { build: build(1), runs: [run(0, 6, 1)] });
  const second = mergeMapping(first, { build: build(2), runs: [run(1, 1, null), run(2, 1, 0)] });
  const mapping = mergeMapping(second, { build: build(3), runs: [run(3, 1, 0)] });
  await writeHeader(directory, { generation: 2, build: build(3), baseBuild: build(1), mapping });
  await writeFile(directory.file(`memfile.${build(1)}`), Buffer.concat([filled('x', 1), filled('a', 6)]));
  await writeFile(directory.file(`memfile.${build(2)}`), filled('b', 1));
  await writeFile(directory.file('memfile'), filled('c', 1));
  await writeFile(directory.file('snapfile'), 'QEVM and more');
  await writeFile(directory.file('rootfs.cow'), 'top');
  await writeFile(directory.file(`rootfs.cow.${build(1)}`), 'lower');
  await writeMeta(directory);
  await writeFile(directory.file('rootfs.base'), base);
  await writeFile(directory.file('identity.json'), JSON.stringify({ access_token: 'secret', number: 4 }));
  return directory;
}

async function writeMeta(directory: SnapshotDirectory, change: object = {}): Promise<void> {
  const meta = { base_template: 'debian', base_content_id: baseId, format: 'qcow2', disk_bytes: 64 * MiB };
  const all = { ...meta, layers: [build(1)], ...change };
  await writeFile(directory.file('rootfs.meta'), JSON.stringify(all));
}

async function setUp(keepMb = 0, freeBytes?: number) {
  const dir = await temporaryDirectory();
  const from = await older(join(dir.path, 'from'));
  const image = join(dir.path, 'image.ext4');
  await writeFile(image, base);
  await chmod(image, 0o444);
  const has = new Set<string>();
  const host: ImportHost = {
    machine: { monitor: facts.monitor, cpu: facts.cpu, disk: { format: 'qcow2' } },
    monitor: { recognises: (state) => state.toString('latin1', 0, 4) === 'QEVM' },
    boot: { kernelId: contentId, initramfsId: contentId },
    images: { rootfsOf: (id) => (has.has(id) ? image : undefined) },
    room: new DiskRoom({
      ...{ dir: dir.path, keepMb },
      ...(freeBytes === undefined ? {} : { statfs: async () => ({ bavail: freeBytes / page, bsize: page }) }),
    }),
  };
  const temporary = new SnapshotDirectory(join(dir.path, '.new'));
  const final = new SnapshotDirectory(join(dir.path, 'final'));
  return {
    temporary,
    from,
    final,
    image,
    /** Images of this host, by content. */
    has,
    import: (request: Partial<ImportRequest> = {}) =>
      importSnapshot(
        { directory: from.path, facts: {}, ...request },
        { temporary, final, durable: false },
        host,
      ),
    [Symbol.asyncDispose]: dir[Symbol.asyncDispose],
  };
}

describe('a directory of the older layout', () => {
  test('becomes a snapshot with all its memory in one file, each page at its place', async () => {
    await using it = await setUp();
    const before = await readdir(it.from.path);
    await it.import();
    const { manifest, header, rootfs } = await verifySnapshot(it.final);
    expect(manifest).toMatchObject({
      ...{ kind: 'copy', sandbox_id: null, template: 'debian', parent: build(3) },
      machine: { vcpus: 1, memory_mb: 128, disk_mb: 64 },
      monitor: facts.monitor,
    });
    expect(header?.build).toBe(header?.baseBuild);
    expect(header?.mapping.builds).toEqual([header?.build]);
    await using memfile = await open(it.final.file('memfile'));
    const pages = Buffer.alloc(8 * page);
    await memfile.read(pages, 0, pages.length, 0);
    const letters = Array.from({ length: 8 }, (_, at) => String.fromCharCode(pages[at * page] ?? 0));
    expect(letters.join('').replaceAll('\0', '.')).toBe('a.bcaa..');
    expect((await memfile.stat()).size).toBe(memoryBytes);
    expect(rootfs).toMatchObject({ layers: [build(1)], base_content_id: baseId });
    expect(await readFile(it.final.file('rootfs.cow'), 'utf8')).toBe('top');
    expect(await readFile(it.final.file(`rootfs.cow.${build(1)}`), 'utf8')).toBe('lower');
    expect(await readdir(it.from.path)).toEqual(before);
  });

  test.each(['qcow2', 'dm-snapshot'])(
    'keeps its layers, whichever kind of disk wrote them: %s',
    async (format) => {
      await using it = await setUp();
      await writeMeta(it.from, { format });
      await it.import();
      const { manifest, rootfs } = await verifySnapshot(it.final);
      expect({ ...manifest.disk, meta: rootfs?.format }).toEqual({ format, meta: format });
    },
  );

  test('can be read by VMs where they must, and nothing else of it', async () => {
    await using it = await setUp();
    await it.import();
    const modes = await Promise.all(
      (await it.final.names()).map(async (name) => [name, (await stat(it.final.file(name))).mode & 0o777]),
    );
    expect(Object.fromEntries(modes)).toEqual({
      ...{ snapfile: 0o444, memfile: 0o444, 'memfile.header': 0o600, 'rootfs.meta': 0o600 },
      ...{ 'rootfs.cow': 0o444, [`rootfs.cow.${build(1)}`]: 0o444, 'rootfs.base': 0o444 },
      ...{ 'identity.json': 0o600, 'manifest.json': 0o600 },
    });
  });

  test('needs room for its memory as it will be, however often a page is told of', async () => {
    /** One stored page at every second place, so that the places are no run. */
    const everywhere = async (directory: SnapshotDirectory) => {
      const pages = memoryBytes / page;
      const runs = Array.from({ length: pages }, (_, at) => run(at, 1, at % 2));
      const mapping = createMapping(memoryBytes, { build: build(3), runs });
      await writeFile(directory.file('memfile'), Buffer.concat([filled('a', 1), filled('b', 1)]));
      await writeHeader(directory, { generation: 0, build: build(3), baseBuild: build(3), mapping });
    };
    await using short = await setUp(0, memoryBytes);
    await everywhere(short.from);
    await expect(short.import()).rejects.toMatchObject({ code: 'capacity_exhausted' });
    await expect(stat(short.temporary.path)).rejects.toMatchObject({ code: 'ENOENT' });
    await using enough = await setUp(0, memoryBytes + 4 * MiB);
    await everywhere(enough.from);
    await enough.import();
    const { header } = await openSnapshot(enough.final);
    expect([...(header?.mapping.bytesByBuild().values() ?? [])]).toEqual([memoryBytes]);
  });

  test('says what was assumed, and takes what is said', async () => {
    await using it = await setUp();
    const monitor = { kind: 'firecracker', version: '1.13.0', accelerator: 'kvm' } as const;
    const assumed = await it.import({ facts: { vcpus: 4, monitor } });
    expect(assumed).toEqual([
      { fact: 'cpu', value: facts.cpu },
      { fact: 'kernel_content_id', value: contentId },
      { fact: 'initramfs_content_id', value: contentId },
    ]);
    const { manifest } = await openSnapshot(it.final);
    expect(manifest).toMatchObject({ monitor, machine: { vcpus: 4 } });
  });

  test('shares the image of this host, and else keeps the one that it has', async () => {
    await using it = await setUp();
    await it.import();
    expect((await stat(it.final.file('rootfs.base'))).nlink).toBe(1);
    await it.final.remove();
    await rm(it.from.file('rootfs.base'));
    it.has.add(baseId);
    await it.import();
    expect((await stat(it.final.file('rootfs.base'))).ino).toBe((await stat(it.image)).ino);
  });

  test('may have a disk that stands alone', async () => {
    await using it = await setUp();
    for (const name of ['rootfs.cow', `rootfs.cow.${build(1)}`, 'rootfs.meta', 'rootfs.base']) {
      await rm(it.from.file(name));
    }
    await writeFile(it.from.file('rootfs.ext4'), base);
    await truncate(it.from.file('rootfs.ext4'), 70 * MiB);
    await it.import();
    const { manifest, rootfs } = await verifySnapshot(it.final);
    expect(rootfs).toBe(null);
    expect(manifest.machine.disk_mb).toBe(70);
    expect(manifest.rootfs_content_id).toMatch(/^[0-9a-f]{64}$/);
  });

  test('needs a token where it has none, and takes no second one', async () => {
    await using it = await setUp();
    await expect(it.import({ access_token: 'other' })).rejects.toThrow('leave the token out');
    await rm(it.from.file('identity.json'));
    await expect(it.import()).rejects.toThrow(/identity.json is missing.*--token-file/);
    await it.import({ access_token: 'other' });
    const identity = JSON.parse(await readFile(it.final.file('identity.json'), 'utf8'));
    expect(identity).toEqual({ access_token: 'other', number: 2 ** 32 });
  });
});

describe('it is refused', () => {
  const header = (bytes: number) => (it: SnapshotDirectory) =>
    writeHeader(it, {
      ...{ generation: 0, build: build(3), baseBuild: build(3) },
      mapping: createMapping(bytes, { build: build(3), runs: [run(0, 1, 0)] }),
    });
  const cases: [string, (it: SnapshotDirectory) => Promise<unknown>, RegExp][] = [
    ['without its memory', (it) => rm(it.file('memfile')), /memfile is missing/],
    [
      'without the memory of a build',
      (it) => rm(it.file(`memfile.${build(2)}`)),
      /memfile.0+2 is missing, and/,
    ],
    [
      'with memory cut off',
      (it) => truncate(it.file('memfile'), 100),
      /memfile has 100 bytes, and .* needs 4096/,
    ],
    [
      'with more memory than its header is of',
      (it) => truncate(it.file('memfile'), memoryBytes + page),
      /memfile has 134221824 bytes, and memfile.header is of a memory of 134217728/,
    ],
    [
      'with a header of too small a machine',
      header(64 * MiB),
      /memfile.header is of a memory of 67108864 bytes/,
    ],
    ['with a header of half a MiB', header(128.5 * MiB), /whole MiB/],
    ['with half a header', (it) => truncate(it.file('memfile.header'), 90), /memfile.header ends within/],
    ['without a header', (it) => rm(it.file('memfile.header')), /memfile.header is missing/],
    ['without device state', (it) => rm(it.file('snapfile')), /snapfile is missing/],
    [
      'with other device state',
      (it) => writeFile(it.file('snapfile'), 'x'),
      /snapfile is not the device state/,
    ],
    ['with endless device state', (it) => truncate(it.file('snapfile'), 2 ** 30), /snapfile has .*allowed/],
    ['without a disk', (it) => rm(it.file('rootfs.cow')), /rootfs.cow is missing/],
    ['without rootfs.meta', (it) => rm(it.file('rootfs.meta')), /rootfs.meta is missing/],
    [
      'without a layer',
      (it) => rm(it.file(`rootfs.cow.${build(1)}`)),
      /rootfs.cow.0+1 is missing, and rootfs.meta/,
    ],
    [
      'with both kinds of disk',
      (it) => writeFile(it.file('rootfs.ext4'), ''),
      /both rootfs.ext4 and rootfs.cow/,
    ],
    [
      'without its image',
      (it) => rm(it.file('rootfs.base')),
      /no image of this host has the content [0-9a-f]{64}/,
    ],
    [
      'with another image',
      (it) => writeFile(it.file('rootfs.base'), 'x'),
      /rootfs.base does not have the content/,
    ],
    [
      'with a larger image',
      (it) => truncate(it.file('rootfs.base'), 65 * MiB),
      /more than the 67108864 of the disk/,
    ],
    [
      'with a layer elsewhere',
      (it) => writeMeta(it, { layers: ['../x'] }),
      /rootfs.meta is not what it should be/,
    ],
    ['of half a MiB of disk', (it) => writeMeta(it, { disk_bytes: 64.5 * MiB }), /whole MiB/],
    ['with other secrets', (it) => writeFile(it.file('identity.json'), '{}'), /identity.json is not what/],
    [
      'with a manifest that is none',
      (it) => writeFile(it.file('manifest.json'), '{}'),
      /manifest.json is not a/,
    ],
  ];
  test.each(cases)('%s', async (_, change, message) => {
    await using it = await setUp();
    await change(it.from);
    await expect(it.import()).rejects.toMatchObject({
      code: 'import_refused',
      message: expect.stringMatching(message),
      details: { directory: it.from.path, reason: expect.stringMatching(message) },
    });
    await expect(stat(it.final.path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('when it would take of what stays free on the disk, before anything is copied', async () => {
    await using it = await setUp(10 ** 9);
    await expect(it.import()).rejects.toMatchObject({
      code: 'capacity_exhausted',
      message: expect.stringContaining('PERCH_KEEP_DISK_MB'),
    });
    await expect(stat(it.final.path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('by a path that leads elsewhere', async () => {
    await using it = await setUp();
    for (const directory of [`${it.from.path}/../from`, `${it.from.path}/`, `${it.from.path}/.`]) {
      await expect(it.import({ directory })).rejects.toThrow('the path is not plain');
    }
  });
});

const small = ['memfile.header', 'rootfs.meta', 'identity.json', 'snapfile', 'manifest.json'];
const files = fc.constantFrom(...small);
property.prop([files, fc.nat(), fc.nat(255), fc.option(randomBytes)], { numRuns: 150 })(
  'whatever is in a small file, the import gives a snapshot that is whole, or refuses it',
  async (name, at, mask, other) => {
    await using it = await setUp();
    const bytes = await readFile(it.from.file(name)).catch(() => Buffer.from('{"crc32":"'));
    bytes.writeUInt8(bytes.readUInt8(at % bytes.length) ^ (mask || 1), at % bytes.length);
    await writeFile(it.from.file(name), other ?? bytes);
    try {
      await it.import();
    } catch (error) {
      expect(error).toMatchObject({ code: 'import_refused' });
      return;
    }
    await verifySnapshot(it.final);
  },
);

describe('a directory with a manifest', () => {
  async function withManifest(
    changed: Partial<ManifestFacts['machine']> = {},
    change: (it: SnapshotDirectory) => Promise<unknown> = async () => {},
  ) {
    const it = await setUp();
    await change(it.from);
    const final = new SnapshotDirectory(`${it.from.path}-whole`);
    const machine = { vcpus: 2, memory_mb: 128, disk_mb: 64, ...changed };
    const manifest = await commitSnapshot({
      ...{ temporary: it.from, final, durable: false },
      facts: { ...facts, build_id: build(3), parent: build(2), machine },
    });
    return { it, manifest, directory: final, [Symbol.asyncDispose]: it[Symbol.asyncDispose] };
  }

  test('is taken as it is', async () => {
    await using whole = await withManifest();
    const { it, manifest, directory } = whole;
    expect(await it.import({ directory: directory.path })).toEqual([]);
    expect((await verifySnapshot(it.final)).manifest).toEqual(manifest);
    expect(await readFile(it.final.file('manifest.json'))).toEqual(
      await readFile(directory.file('manifest.json')),
    );
    expect((await stat(it.final.file('memfile'))).mode & 0o777).toBe(0o444);
  });

  test('needs nothing said', async () => {
    await using whole = await withManifest();
    const { it, directory } = whole;
    await expect(it.import({ directory: directory.path, facts: { vcpus: 2 } })).rejects.toThrow(
      'leave out vcpus',
    );
  });

  test.each<[Parameters<typeof withManifest>, RegExp]>([
    [[{ vcpus: 17 }], /a machine with vcpus 17; a sandbox has 1 to 16/],
    [[{ memory_mb: 65_537 }], /a machine with memory_mb 65537; a sandbox has 128 to 65536/],
    [[{ disk_mb: 63 }], /a machine with disk_mb 63; a sandbox has 64 to/],
    [[{ disk_mb: 128 }], /rootfs.meta is of a disk of 67108864 bytes, and its manifest of 134217728/],
  ])('is refused when no sandbox could be made of it: %j', async (args, message) => {
    await using whole = await withManifest(...args);
    const { it, directory } = whole;
    await expect(it.import({ directory: directory.path })).rejects.toMatchObject({
      code: 'import_refused',
      message: expect.stringMatching(message),
    });
    await expect(stat(it.final.path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test.each<[string, (it: SnapshotDirectory) => Promise<unknown>, RegExp]>([
    [
      'a byte is another',
      (it) => writeFile(it.file('memfile'), filled('d', 1)),
      /memfile is not what was written/,
    ],
    ['a file is shorter', (it) => truncate(it.file('memfile'), 5), /memfile has 5 bytes instead of 4096/],
    ['a file is missing', (it) => rm(it.file('identity.json')), /identity.json is missing/],
    [
      'there is a file more',
      (it) => writeFile(it.file('rootfs.ext4'), ''),
      /rootfs.ext4 is not in the manifest/,
    ],
  ])('is refused when %s', async (_, change, message) => {
    await using whole = await withManifest();
    const { it, directory } = whole;
    await change(directory);
    await expect(it.import({ directory: directory.path })).rejects.toMatchObject({
      code: 'import_refused',
      message: expect.stringMatching(message),
    });
  });
});
