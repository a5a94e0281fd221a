/** The layers and pages that a sandbox gathers over its lives are merged while it is paused. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Perch } from '../packages/sdk/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { footprint, footprintOf, run } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';
import { Witness } from './setup/witness.ts';

let instance: PerchInstance;
let perch: Perch;
const bounds = { percent: 15, layers: 3 };
const shape = { memory_mb: 128, disk_mb: 1024, timeout_sec: 1800 };
const MiB = 2 ** 20;

beforeAll(async () => {
  instance = await PerchInstance.start({
    network: 97,
    env: {
      PERCH_HISTORY: '3',
      PERCH_MERGE_PERCENT: `${bounds.percent}`,
      PERCH_MERGE_LAYERS: `${bounds.layers}`,
    },
  });
  ({ perch } = instance);
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

const newest = async (id: string) => (await perch.sandboxes.history(id)).items.at(-1)?.checkpoint ?? 0;

/** The files that a resume has to read and open. */
function costOf(id: string, checkpoint: number) {
  const dir = join(instance.dataDir, 'sandboxes', id, `${checkpoint}`);
  const flat = readdirSync(dir).find((name) => /^memfile\.[0-9a-f]{32}$/.test(name));
  const meta = JSON.parse(readFileSync(join(dir, 'rootfs.meta'), 'utf8'));
  return {
    changedBytes: flat === undefined ? 0 : statSync(join(dir, 'memfile')).size,
    layers: meta.layers.length + 1,
  };
}

/** Once no merge is under way, nor due. */
async function merged(id: string) {
  const checkpoint = await newest(id);
  return eventually(() => {
    const cost = costOf(id, checkpoint);
    const within =
      cost.layers <= bounds.layers && cost.changedBytes * 100 <= bounds.percent * shape.memory_mb * MiB;
    const atRest = readdirSync(join(instance.dataDir, 'sandboxes')).every((name) => !name.startsWith('.'));
    return within && atRest && cost;
  });
}

test('a sandbox that has changed much over many lives is merged, and goes on with memory and disk intact', async () => {
  await using sandbox = await newSandbox(perch, shape);
  const { id } = sandbox;
  const witness = await Witness.place(perch, id);
  for (let round = 1; round <= 3; round++) {
    await witness.change();
    // More than the bound alone, and other memory each time.
    await sh(perch, id, `rm -f /dev/shm/much-*; head -c 25000000 /dev/urandom > /dev/shm/much-${round}`);
    const much = await sh(perch, id, 'cksum < /dev/shm/much-*');
    for (let copy = 0; copy < 2; copy++) {
      await perch.snapshots.create({ sandbox_id: id, name: 'meanwhile' }, { overwrite: true });
    }
    await perch.sandboxes.pause(id);
    const before = (await perch.sandboxes.history(id)).items;
    expect(await merged(id)).toEqual({ changedBytes: 0, layers: 1 });
    const after = (await perch.sandboxes.history(id)).items;
    const told = ({ checkpoint, parent, kind, created_at }: (typeof after)[number]) =>
      JSON.stringify({ checkpoint, parent, kind, created_at });
    expect(after.map(told)).toEqual(before.map(told));
    expect(await instance.run('fsck')).toBe('All is as it was written.\n');
    await perch.sandboxes.resume(id);
    await witness.expectWhole();
    expect(await sh(perch, id, 'cksum < /dev/shm/much-*')).toBe(much);
  }
  // Checkpoints of before the last merge are as they were.
  const { items } = await perch.sandboxes.history(id);
  const { results } = await perch.sandboxes.fork(id, { checkpoint: items.at(-2)?.checkpoint ?? 0 });
  const child = results[0] && 'sandbox' in results[0] ? results[0].sandbox.id : '';
  await witness.in(child).expectWhole();
  await perch.sandboxes.delete(child);
  await perch.snapshots.delete('meanwhile');
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf(id));
});

test('a sandbox that is resumed at once, again and again, is never merged into what it was', async () => {
  await using sandbox = await newSandbox(perch, shape);
  const { id } = sandbox;
  const witness = await Witness.place(perch, id);
  for (let round = 1; round <= 5; round++) {
    await witness.change();
    await sh(perch, id, 'head -c 25000000 /dev/urandom > /dev/shm/much');
    await perch.sandboxes.pause(id);
    // The first before a merge begins, the others in the middle of one.
    if (round > 1)
      await eventually(() =>
        readdirSync(join(instance.dataDir, 'sandboxes')).some((name) => name.startsWith('.')),
      );
    await perch.sandboxes.resume(id);
    await witness.expectWhole();
  }
  await perch.sandboxes.pause(id);
  expect(await merged(id)).toEqual({ changedBytes: 0, layers: 1 });
  await perch.sandboxes.resume(id);
  await witness.expectWhole();
  await expect.poll(() => footprint(instance), { timeout: 30_000 }).toEqual(footprintOf(id));
});

/**
 * In each cluster of a file the first page is of the last life, the others of the beginning: a layer gets whole clusters
 * for the pages that a guest writes.
 */
const rewriter = `
import os, sys
life, work = sys.argv[1:]
cluster, page, clusters = 65536, 4096, 5600
first = life.encode() * (page // len(life))
first += bytes(page - len(first))
whole = first + b"0" * (cluster - page)
file = os.open("/home/user/rewritten", os.O_RDWR | os.O_CREAT)
for number in range(clusters):
    if work == "begin":
        os.write(file, whole)
    elif work == "write":
        os.pwrite(file, first, number * cluster)
    else:
        assert os.pread(file, cluster, number * cluster) == whole, number
os.fsync(file)
`;

test('a guest that rewrites its disk in each life, and is resumed at once, occupies no more than it may', async () => {
  await using sandbox = await newSandbox(perch, shape);
  const { id } = sandbox;
  const diskBytes = shape.disk_mb * MiB;
  const layersOf = (checkpoint: number) => {
    const dir = join(instance.dataDir, 'sandboxes', id, `${checkpoint}`);
    const layers = readdirSync(dir).filter((name) => name.startsWith('rootfs.cow'));
    return layers.reduce((sum, name) => sum + statSync(join(dir, name)).blocks * 512, 0);
  };
  // The page cache is left out: what is looked at comes from the disk.
  const rewriting = (life: number, work: string) =>
    sh(perch, id, `echo 3 | sudo tee /proc/sys/vm/drop_caches; python3 -c '${rewriter}' ${life} ${work}`);
  await rewriting(0, 'begin');
  let merged = false;
  for (let life = 1; !merged; life++) {
    await rewriting(life, 'write');
    await perch.sandboxes.pause(id);
    const checkpoint = await newest(id);
    const before = layersOf(checkpoint);
    // The tables of qcow2 take 1/8192 of what they map, and some clusters more.
    expect(before).toBeLessThan(3 * (diskBytes * 1.001 + MiB));
    await perch.sandboxes.resume(id);
    await rewriting(life, 'check');
    merged = before > 2 * diskBytes;
    if (merged) expect(layersOf(checkpoint)).toBeLessThan(diskBytes * 1.001 + MiB);
  }
  expect(await instance.run('fsck')).toBe('All is as it was written.\n');
}, 600_000);

test('what a sandbox occupies of its own is what goes when it goes', async () => {
  const { id } = await perch.sandboxes.create(shape);
  for (let life = 0; life < 2; life++) {
    await sh(perch, id, 'head -c 20000000 /dev/urandom > /home/user/data; sync');
    await perch.sandboxes.pause(id);
    await merged(id);
    if (life === 0) await perch.sandboxes.resume(id);
  }
  const { items, own_bytes, shared_bytes } = await perch.sandboxes.history(id);
  const before = await occupied();
  await perch.sandboxes.delete(id);
  await expect.poll(() => readdirSync(join(instance.dataDir, 'sandboxes'))).toEqual([]);
  expect(before - (await occupied())).toBe(own_bytes);
  // Checkpoints share with each other, and with the template.
  expect(own_bytes).toBeGreaterThan(items.reduce((sum, one) => sum + one.own_bytes, 0));
  expect(shared_bytes).toBeLessThan(items.reduce((sum, one) => sum + one.shared_bytes, 0));
});

/** Bytes in files of sandboxes and of what they share, each once. */
async function occupied(): Promise<number> {
  const all = ['sandboxes', 'boot-snapshots', 'images', 'host/boot', 'host/vms'].map((name) =>
    join(instance.dataDir, name),
  );
  const { stdout } = await run('find', [...all, '-type', 'f', '-printf', '%D:%i %b\n']);
  const files = new Map(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
  return [...files.values()].reduce((sum, blocks) => sum + Number(blocks) * 512, 0);
}
