import { mkdir, mkdtempDisposable, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { BuildError } from '../errors.ts';
import { copyInOrder, copyOnDemand, type ModuleTree, readModuleTree } from './tree.ts';

/** A kernel's folder of modules, of which only what they depend on is true. */
async function makeTree(folder: string): Promise<ModuleTree> {
  const modules = {
    'kernel/drivers/virtio/virtio_ring.ko': '',
    'kernel/drivers/char/virtio-rng.ko': 'virtio_ring',
    'kernel/net/bridge/bridge.ko': 'llc',
    'kernel/net/llc/llc.ko': '',
  };
  for (const [path, depends] of Object.entries(modules)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), `ELF\0depends=${depends}\0`);
  }
  await writeFile(join(folder, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n');
  return await readModuleTree(folder);
}

test('modules of the boot are copied with what they depend on, in the order in which they load', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'perch-tree-'));
  const tree = await makeTree(join(folder.path, 'tree'));
  await copyInOrder(tree, ['ext4', 'virtio-rng'], join(folder.path, 'boot'));
  expect(await readFile(join(folder.path, 'boot/order'), 'utf8')).toBe('virtio_ring\nvirtio_rng\n');
  expect((await readdir(join(folder.path, 'boot'))).sort()).toEqual([
    'order',
    'virtio_ring.ko',
    'virtio_rng.ko',
  ]);
});

test('a module, or a folder of them, that a kernel does not have is named', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'perch-tree-'));
  const tree = await makeTree(join(folder.path, 'tree'));
  const refusal = (copy: Promise<void>) => expect(copy).rejects;
  await refusal(copyInOrder(tree, ['absent'], join(folder.path, 'boot'))).toThrow(/no module absent/);
  await refusal(copyOnDemand(tree, ['net/absent/'], join(folder.path, 'later'))).toThrow(BuildError);
});
