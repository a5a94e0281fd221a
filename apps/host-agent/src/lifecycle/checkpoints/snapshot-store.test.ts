import { mkdir, mkdtempDisposable, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LayerFormat } from '@perch/protocol';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import {
  commitSnapshot,
  readManifest,
  SnapshotDirectory,
  snapshotFiles,
  writeRootfsMeta,
} from '../../snapshot/index.ts';
import { facts, fillDirectory } from '../../snapshot/testing.ts';
import { copyFlat } from './flat-copy.ts';
import { type MakeSnapshot, SnapshotStore } from './snapshot-store.ts';

async function store() {
  const root = await mkdtempDisposable(join(tmpdir(), 'perch-store-'));
  const dir = join(root.path, 'snapshots');
  const open = async () => {
    const opened = new SnapshotStore({ dir, log: pino({ level: 'silent' }) });
    await opened.start();
    return opened;
  };
  const { path } = root;
  return { dir, path, open, store: await open(), [Symbol.asyncDispose]: () => root.remove() };
}

const make =
  (cpu = facts.cpu): MakeSnapshot =>
  async ({ temporary, final, durable }) => {
    await fillDirectory(temporary.path);
    await commitSnapshot({ temporary, final, durable, facts: { ...facts, cpu } });
  };

/** The same state over layers of this format. */
const ofFormat =
  (format: LayerFormat): MakeSnapshot =>
  async ({ temporary, final, durable }) => {
    await fillDirectory(temporary.path);
    await rm(temporary.file(snapshotFiles.rootfsMeta));
    await writeRootfsMeta(temporary, {
      ...{ base_template: 'base', base_content_id: 'a'.repeat(64), format },
      ...{ disk_bytes: 64 * 2 ** 20, layers: [] },
    });
    await commitSnapshot({ temporary, final, durable, facts: { ...facts, disk: { format } } });
  };

const failing: MakeSnapshot = async ({ temporary }) => {
  await fillDirectory(temporary.path);
  throw new Error('no room');
};

test('a snapshot is listed with its machine and what it occupies, until it is removed', async () => {
  await using it = await store();
  await it.store.create('b', false, make());
  await it.store.create('a.1-x', false, make());
  const listed = await it.store.list();
  expect(listed.map(({ name }) => name)).toEqual(['a.1-x', 'b']);
  expect(listed[0]).toMatchObject({
    ...{ type: 'snapshot', template: 'base', vcpus: 1, memory_mb: 1, disk_mb: 64 },
    ...{ standalone: false, shared_bytes: 0, sandbox_id: facts.sandbox_id, created_at: facts.created_at },
  });
  expect(listed[0]?.size_bytes).toBe(listed[0]?.own_bytes);
  expect(await it.store.get('b')).toEqual(listed[1]);
  await it.store.remove('b');
  await expect(it.store.get('b')).rejects.toMatchObject({
    code: 'snapshot_not_found',
    details: { name: 'b' },
  });
  await expect(it.store.remove('b')).rejects.toMatchObject({ code: 'snapshot_not_found' });
  expect(await readdir(it.dir)).toEqual(['a.1-x']);
});

test('a name that is taken stays what it was, unless it is to be replaced', async () => {
  await using it = await store();
  await it.store.create('a', false, make('first'));
  await expect(it.store.create('a', false, make('second'))).rejects.toMatchObject({
    code: 'snapshot_exists',
  });
  const cpu = () => it.store.use('a', async ({ manifest }) => manifest.cpu);
  expect(await cpu()).toBe('first');
  await it.store.create('a', true, make('second'));
  expect(await cpu()).toBe('second');
  expect(await readdir(it.dir)).toEqual(['a']);
});

test('two that want one name at the same time: one gets it', async () => {
  await using it = await store();
  const both = await Promise.allSettled([
    it.store.create('a', false, make()),
    it.store.create('a', false, make()),
  ]);
  expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(await readdir(it.dir)).toEqual(['a']);
});

test('one that cannot be made leaves nothing', async () => {
  await using it = await store();
  await expect(it.store.create('a', true, failing)).rejects.toThrow('no room');
  expect(await readdir(it.dir)).toEqual([]);
});

test('one without a name goes with its scope', async () => {
  await using it = await store();
  {
    await using scratch = await it.store.scratch(make());
    expect(await scratch.directory.exists()).toBe(true);
    expect(await it.store.list()).toEqual([]);
  }
  expect(await readdir(it.dir)).toEqual([]);
});

test('what a crash left is removed, and a replacement that was cut off is the old one or the new one', async () => {
  await using it = await store();
  await it.store.create('a', false, make('old'));
  await it.store.create('b', false, make('new'));
  await rename(join(it.dir, 'a'), join(it.dir, '.replaced-a'));
  await fillDirectory(join(it.dir, '.replaced-b'));
  await mkdir(join(it.dir, '.new-1'));
  await fillDirectory(join(it.dir, '.made-2'));
  const again = await it.open();
  expect((await readdir(it.dir)).toSorted()).toEqual(['a', 'b']);
  const cpu = (name: string) => again.use(name, async ({ manifest }) => manifest.cpu);
  expect([await cpu('a'), await cpu('b')]).toEqual(['old', 'new']);
});

test('a damaged one is named when it is asked for, and does not hide the others', async () => {
  await using it = await store();
  await it.store.create('a', false, make());
  await it.store.create('b', false, make());
  await rm(new SnapshotDirectory(join(it.dir, 'a')).file('manifest.json'));
  await expect(it.store.get('a')).rejects.toMatchObject({ code: 'snapshot_damaged' });
  expect((await it.store.list()).map(({ name }) => name)).toEqual(['b']);
  await it.store.create('a', true, make());
  expect(await it.store.list()).toHaveLength(2);
});

test.each(['manifest.json', 'memfile'])(
  'one that lost its %s still has its name, until it is replaced or removed',
  async (file) => {
    await using it = await store();
    for (const name of ['a', 'b']) {
      await it.store.create(name, false, make());
      await rm(new SnapshotDirectory(join(it.dir, name)).file(file));
    }
    await expect(it.store.get('a')).rejects.toMatchObject({ code: 'snapshot_damaged' });
    await expect(it.store.create('a', false, make())).rejects.toMatchObject({ code: 'snapshot_exists' });
    await it.store.create('a', true, make());
    expect(await it.store.get('a')).toMatchObject({ name: 'a' });
    await it.store.remove('b');
    await expect(it.store.get('b')).rejects.toMatchObject({ code: 'snapshot_not_found' });
    expect(await readdir(it.dir)).toEqual(['a']);
  },
);

test('one that lost everything still has its name', async () => {
  await using it = await store();
  await mkdir(join(it.dir, 'a'));
  await expect(it.store.get('a')).rejects.toMatchObject({ code: 'snapshot_damaged' });
  await it.store.create('a', true, make());
  expect(await readdir(it.dir)).toEqual(['a']);
});

test.each<[string, Parameters<SnapshotStore['change']>[1]]>([
  ['another snapshot', copyFlat],
  ['the same with other layers', (_, to) => ofFormat('dm-snapshot')(to)],
])(
  'a change of a snapshot whose name is of %s by now is refused, and loses nothing of that',
  async (_, other) => {
    await using it = await store();
    await it.store.create('a', false, ofFormat('qcow2'));
    const manifest = () => readManifest(new SnapshotDirectory(join(it.dir, 'a')));
    let after: unknown;
    const changed = it.store.change('a', async (from, to) => {
      expect(from.rootfs?.format).toBe('qcow2');
      await it.store.change('a', other);
      after = await manifest();
      await ofFormat('qcow2')(to);
    });
    await expect(changed).rejects.toMatchObject({ code: 'snapshot_in_use', details: { name: 'a' } });
    expect(await manifest()).toEqual(after);
    expect(await readdir(it.dir)).toEqual(['a']);
  },
);
