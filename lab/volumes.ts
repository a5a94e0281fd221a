/** Disks that the lab host only reads: node_modules of this checkout, and what `npm run setup` built. */
import { cp, link, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { contentKey } from '../images/cache.ts';
import { run } from '../images/commands.ts';
import type { Artifacts } from '../images/index.ts';
import { labPart } from './cache.ts';
import { firecrackerPrograms } from './firecracker.ts';

export interface Volume {
  key: string;
  /** Ext4 image, read only. */
  path: string;
}

/** Room for what the file system itself needs, as a share of the files, and in MiB. */
const overhead = { share: 0.25, mib: 64 };

export async function packageVolume(root: string, cache: string): Promise<Volume> {
  const lock = await readFile(join(root, 'package-lock.json'));
  const key = contentKey(new Map([['package-lock.json', lock]]));
  return volume(cache, 'lab-packages', key, (tree) =>
    cp(join(root, 'node_modules'), tree, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (from) => !/\/node_modules\/\.(cache|vite)$/.test(from),
    }),
  );
}

/**
 * The folders of the cache that `artifacts` lie in, at the same places below the disk's root. Beside them
 * `perch-guest`, the agent that runs the commands in the lab, and the programs of Firecracker.
 */
export async function artifactVolume(
  artifacts: Artifacts,
  firecracker: string,
  cache: string,
): Promise<Volume> {
  const { kernel, initramfs, guestAgent, pager, base } = artifacts;
  const folders = [kernel, initramfs, guestAgent, pager, base.rootfs].map((file) =>
    relative(cache, join(file, '..')),
  );
  return volume(
    cache,
    'lab-artifacts',
    contentKey(new Map([...folders, firecracker].map((name) => [name, '']))),
    async (tree) => {
      for (const folder of folders) await linkTree(join(cache, folder), join(tree, folder));
      await link(guestAgent, join(tree, 'perch-guest'));
      for (const program of firecrackerPrograms) await link(join(firecracker, program), join(tree, program));
    },
  );
}

async function linkTree(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) await linkTree(source, target);
    else await link(source, target);
  }
}

async function volume(
  cache: string,
  kind: string,
  key: string,
  fill: (tree: string) => Promise<void>,
): Promise<Volume> {
  const folder = await labPart({ cache, kind, key }, async (partial) => {
    const tree = join(partial, 'tree');
    await mkdir(tree);
    await fill(tree);
    const [used = '0'] = (await run('du', ['-sB1048576', tree])).split('\t');
    const inodes = (await run('du', ['-s', '--inodes', tree])).split('\t')[0] ?? '0';
    const mib = Math.ceil(Number(used) * (1 + overhead.share) + overhead.mib);
    await run('mke2fs', [
      ...['-q', '-F', '-t', 'ext4', '-d', tree, '-b', '4096', '-m', '0', '-O', '^has_journal'],
      ...['-N', String(Number(inodes) + 1000), '-E', 'root_owner=0:0'],
      ...[join(partial, 'disk.ext4'), `${mib}M`],
    ]);
    await rm(tree, { recursive: true });
  });
  return { key, path: join(folder, 'disk.ext4') };
}
