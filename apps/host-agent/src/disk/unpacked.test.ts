/** Layers may unpack to far more than they occupy: a monitor that was taken over can write any. */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ToolPlace } from './backend.ts';
import type { LayeredState } from './changes.ts';
import { convertLayers } from './convert.ts';
import { createQcow2Disks } from './qcow2/index.ts';
import { DiskPlaces, MiB } from './test-guest.ts';

const isRoot = process.getuid?.() === 0;
const disks = createQcow2Disks();

const works: Record<string, (state: LayeredState, tool: ToolPlace) => Promise<string>> = {
  merge: (state, tool) => disks.merge(state, tool),
  flatten: (state, tool) => disks.flatten(state, tool),
  conversion: (state, tool) => convertLayers(state, 'dm-snapshot', tool),
};

/** 48 MiB, compressed. */
function compressedState(places: DiskPlaces): LayeredState {
  const raw = places.file('raw', Buffer.alloc(48 * MiB, 'b'));
  const layer = join(places.root, 'compressed.qcow2');
  execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, layer]);
  execFileSync('qemu-img', ['resize', '-q', layer, `${places.sizeBytes}`]);
  execFileSync('chmod', ['0444', layer]);
  expect(statSync(layer).blocks * 512).toBeLessThan(2 * MiB);
  return { format: 'qcow2', base: places.image, layers: [layer] };
}

function occupiedIn(dir: string): number {
  const stats = readdirSync(dir).map((name) => statSync(join(dir, name)));
  return stats.reduce((sum, { nlink, blocks }) => sum + (nlink === 1 ? blocks * 512 : 0), 0);
}

describe.runIf(isRoot).each(Object.entries(works))('a %s of layers that are compressed', (_, work) => {
  test('is refused for what they unpack to, before any of it is written', async () => {
    using places = new DiskPlaces();
    const full = new Error('no room');
    const admit = async (bytes: number) => {
      if (bytes > 40 * MiB) throw full;
    };
    const tool = { ...places.tool('tool'), admit };
    await expect(work(compressedState(places), tool)).rejects.toBe(full);
    expect(occupiedIn(tool.dir)).toBeLessThan(MiB);
  });

  test('takes no more than it was admitted with', async () => {
    using places = new DiskPlaces();
    let admitted = 0;
    const admit = async (bytes: number) => {
      admitted = bytes;
    };
    const tool = { ...places.tool('tool'), admit };
    const made = await work(compressedState(places), tool);
    expect(statSync(made).blocks * 512).toBeGreaterThanOrEqual(48 * MiB);
    expect(occupiedIn(tool.dir)).toBeLessThanOrEqual(admitted);
  });
});
