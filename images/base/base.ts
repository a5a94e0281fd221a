import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cached, contentKey, readInputs } from '../cache.ts';
import { run } from '../commands.ts';
import { aptAcquireSettings, debianSources } from '../debian.ts';
import { makeExt4 } from './ext4.ts';
import { unpackNpmPackages } from './npm.ts';
import recipe from './recipe.json' with { type: 'json' };

/** The facts of a base image; `image.json` in its folder. */
export type ImageInfo = {
  name: string;
  /** SHA-256 of `rootfs.ext4`. */
  content_id: string;
  /** Length of `rootfs.ext4` in bytes. */
  size: number;
  /** Number of Debian packages in it. */
  packages: number;
  /** ISO 8601. */
  created: string;
};

/** Debian's slim images leave the same out; of Vim, its manual. */
const UNWANTED = [
  'path-exclude=/usr/share/man/*',
  'path-exclude=/usr/share/info/*',
  'path-exclude=/usr/share/locale/*',
  'path-exclude=/usr/share/doc/*',
  'path-include=/usr/share/doc/*/copyright',
  ...['doc', 'lang', 'spell', 'tutor'].map((folder) => `path-exclude=/usr/share/vim/vim90/${folder}/*`),
];

export async function baseKey(root: string): Promise<string> {
  return contentKey(await readInputs(root, ['images/base']));
}

/** Folder with `rootfs.ext4` and `image.json`. */
export async function buildBase(root: string, cache: string, replace = false): Promise<string> {
  return await cached(cache, 'images/base', await baseKey(root), makeImage, replace);
}

export async function readImageInfo(folder: string): Promise<ImageInfo> {
  return JSON.parse(await readFile(join(folder, 'image.json'), 'utf8'));
}

async function makeImage(folder: string): Promise<void> {
  const tree = join(folder, 'tree');
  const npm = join(folder, 'npm');
  await mkdir(npm);
  await unpackNpmPackages(recipe.npm, npm);
  await makeTree(tree, npm);

  const image = join(folder, 'rootfs.ext4');
  await makeExt4(tree, image, recipe.filesystem, recipe.epoch);
  await chmod(image, 0o444);
  const status = await readFile(join(tree, 'var/lib/dpkg/status'), 'utf8');
  const info: ImageInfo = {
    name: 'base',
    content_id: await sha256(image),
    size: (await stat(image)).size,
    packages: status.split('\nStatus: install ok installed\n').length - 1,
    created: new Date().toISOString(),
  };
  await writeFile(join(folder, 'image.json'), `${JSON.stringify(info, null, 2)}\n`);
  await run('rm', ['-rf', '--one-file-system', tree, npm]);
}

async function makeTree(tree: string, npm: string): Promise<void> {
  const apt = await aptAcquireSettings();
  // A mount namespace of its own: a build that is killed leaves no mount inside a tree that is about to be removed.
  const args = [
    '--mount',
    '--propagation',
    'private',
    '--',
    'mmdebstrap',
    '--mode=root',
    '--format=directory',
  ];
  args.push('--variant=minbase', `--include=${recipe.packages.join(',')}`);
  args.push(
    ...UNWANTED.map((option) => `--dpkgopt=${option}`),
    ...apt.map((setting) => `--aptopt=${setting}`),
  );
  args.push(
    `--customize-hook=${shellQuote(join(import.meta.dirname, 'customize.sh'))} "$1" ${shellQuote(npm)} ${shellQuote(import.meta.dirname)}`,
  );
  args.push(recipe.suite, tree, ...(await debianSources(recipe.suite)));
  await run('unshare', args, {
    env: { SOURCE_DATE_EPOCH: String(recipe.epoch) },
    remedy: 'Check that `apt-get update` reaches a Debian mirror, then run `npm run setup` again.',
  });
  const epoch = `@${recipe.epoch}`;
  await run('find', [tree, '-newermt', epoch, '-exec', 'touch', '-h', '-d', epoch, '{}', '+']);
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}
