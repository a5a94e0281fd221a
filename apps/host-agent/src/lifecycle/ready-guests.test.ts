/** Pins and the templates that they are for. The pool has tests of its own. */
import { type HostPinReady, PerchError, type Snapshot } from '@perch/protocol';
import { expect, test } from 'vitest';
import { Pins, type ReadyState } from './ready/index.ts';
import { ReadyGuests } from './ready-guests.ts';

const usual = { template: 'base', vcpus: 1, memory_mb: 512, disk_mb: 5120 };
const mine = { template: 'mine', vcpus: 2, memory_mb: 256, disk_mb: 1024 };

/** A host with the image `base` and the snapshot `mine`, that keeps up to eight. */
function setUp() {
  const kept = new Map<string, string>();
  const journal = {
    setting: (name: string) => kept.get(name),
    setSetting: (name: string, value: string) => void kept.set(name, value),
  };
  const it = {
    snapshots: new Map([['mine', mine]]),
    gone: [] as string[],
    warned: [] as object[],
    states: [] as ReadyState[],
    /** Holds up whoever looks at a snapshot. */
    snapshotGate: Promise.resolve(),
    /** As after a restart. */
    open: () => {
      const pins = new Pins(journal);
      const pool = {
        ...{ counts: { hits: 0, misses: 0 }, look: () => {}, states: () => it.states },
        changed: async (name: string) => void it.gone.push(name),
      };
      const find = async ({ template }: { template: string }) => {
        if (template === 'alone') return { ready: undefined };
        if (template === 'base' || it.snapshots.has(template)) return { ready: {} };
        throw new PerchError('template_not_found', 'There is none.', { template });
      };
      const get = async (name: string) => {
        await it.snapshotGate;
        const snapshot = it.snapshots.get(name);
        if (!snapshot) throw new PerchError('snapshot_not_found', 'There is none.', { name });
        return snapshot as unknown as Snapshot;
      };
      const guests = new ReadyGuests(
        {
          images: { find: (name: string) => (name === 'base' ? ({} as never) : undefined) },
          ...{
            snapshots: { get },
            ready: { most: 8 },
            log: { warn: (about: object) => void it.warned.push(about) },
          },
        },
        { pins, pool, sources: { find } } as unknown as ConstructorParameters<typeof ReadyGuests>[1],
      );
      return { guests, pins };
    },
  };
  return it;
}

test('guests of a snapshot without memory are not pinned, since none can stand ready', async () => {
  const { guests, pins } = setUp().open();
  await expect(guests.pin({ ...mine, template: 'alone', count: 1 })).rejects.toMatchObject({
    ...{ code: 'validation_failed', details: { problems: [{ where: 'template' }] } },
    message: expect.stringContaining('The template alone is a snapshot without memory'),
  });
  expect(pins.all()).toEqual([]);
});

test('a number is pinned for a template and shape, and given back', async () => {
  const { guests, pins } = setUp().open();
  expect(await guests.pin({ ...usual, count: 4 })).toMatchObject({ ...usual, pinned: 4 });
  await guests.pin({ ...usual, memory_mb: 1024, count: 0 });
  expect(pins.all().map(({ request, count }) => [request.memory_mb, count])).toEqual([
    [512, 4],
    [1024, 0],
  ]);
  expect(await guests.pin({ ...usual, count: null })).toMatchObject({ pinned: null });
  expect(pins.all()).toHaveLength(1);
});

test.each<[HostPinReady, string]>([
  [{ ...usual, count: 8 }, 'too_many_ready'],
  [{ ...usual, memory_mb: 1024, count: 5 }, 'too_many_ready'],
  [{ ...usual, template: 'none', count: 1 }, 'template_not_found'],
])('%j is refused, and the pins are as before', async (pin, code) => {
  const { guests, pins } = setUp().open();
  await guests.pin({ ...usual, count: 3 });
  await guests.pin({ ...mine, count: 1 });
  const before = pins.all();
  await expect(guests.pin(pin)).rejects.toMatchObject({ code });
  expect(pins.all()).toEqual(before);
});

test('pins of none do not go on without end', async () => {
  const { guests } = setUp().open();
  const all = Array.from({ length: 8 }, (_, index) => ({ ...usual, memory_mb: 512 + index, count: 0 }));
  for (const pin of all) await guests.pin(pin);
  await expect(guests.pin({ ...mine, count: 0 })).rejects.toMatchObject({ code: 'too_many_ready' });
});

test('a pin goes with its snapshot, and gets the shape of another that takes the name, also after a crash', async () => {
  const it = setUp();
  const before = it.open();
  await before.guests.pin({ ...usual, count: 1 });
  await before.guests.pin({ ...mine, count: 2 });
  it.snapshots.set('mine', { ...mine, memory_mb: 1024 });
  await before.guests.changed('mine');
  expect(before.pins.countOf({ ...mine, memory_mb: 1024 })).toBe(2);
  expect(it.gone).toEqual(['mine']);
  it.snapshots.delete('mine');
  const after = it.open();
  await after.guests.recover();
  expect(after.pins.all()).toEqual([{ request: usual, count: 1 }]);
});

test('a number that is pinned while another snapshot takes a name is kept', async () => {
  const it = setUp();
  const { guests, pins } = it.open();
  await guests.pin({ ...mine, count: 2 });
  it.snapshots.set('mine', { ...mine, memory_mb: 1024 });
  const gate = Promise.withResolvers<void>();
  it.snapshotGate = gate.promise;
  const changed = guests.changed('mine');
  await guests.pin({ ...usual, count: 1 });
  gate.resolve();
  await changed;
  expect(pins.countOf(usual)).toBe(1);
  expect(pins.countOf({ ...mine, memory_mb: 1024 })).toBe(2);
});

test('a snapshot that cannot be read keeps its pin, and no start from going on', async () => {
  const it = setUp();
  const { guests, pins } = it.open();
  await guests.pin({ ...mine, count: 2 });
  it.snapshotGate = Promise.reject(new Error('EIO: the disk cannot be read'));
  await guests.recover();
  expect(pins.countOf(mine)).toBe(2);
  expect(it.warned).toMatchObject([{ template: 'mine' }]);
});

test('guests that nobody wants, has pinned or has asked for are not listed', () => {
  const it = setUp();
  const none = { ready: 0, wanted: 0, hits: 0, misses: 0 };
  it.states = [
    { ...usual, ...none },
    { ...usual, memory_mb: 1024, ...none, misses: 1 },
    { ...mine, ...none, ready: 1 },
  ];
  const { guests } = it.open();
  expect(guests.list().map(({ template, memory_mb }) => [template, memory_mb])).toEqual([
    ['base', 1024],
    ['mine', 256],
  ]);
});
