import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, relative } from 'node:path';
import { run } from './commands.ts';

const KEY_LENGTH = 12;
const PARTIAL = /^\.partial-(\d+)-/;

/** Folder of everything that is built or downloaded: `PERCH_CACHE`, else `perch` in the user's cache. */
export function cacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return env.PERCH_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'perch');
}

/** Short digest of named inputs, the same for the same content in any order. */
export function contentKey(inputs: ReadonlyMap<string, string | Uint8Array>): string {
  const hash = createHash('sha256');
  for (const [name, content] of [...inputs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name.length}:${name}${content.length}:`).update(content);
  }
  return hash.digest('hex').slice(0, KEY_LENGTH);
}

/** Every file under the given files and folders by its path from `root`; tests and what is missing are left out. */
export async function readInputs(root: string, paths: readonly string[]): Promise<Map<string, Buffer>> {
  const inputs = new Map<string, Buffer>();
  for (const path of paths) {
    for (const file of await filesUnder(join(root, path))) {
      if (!file.endsWith('.test.ts')) inputs.set(relative(root, file), await readFile(file));
    }
  }
  return inputs;
}

async function filesUnder(path: string): Promise<string[]> {
  if (!existsSync(path)) return [];
  const entries = await readdir(path, { withFileTypes: true, recursive: true }).catch((error) => {
    if (error.code === 'ENOTDIR') return null;
    throw error;
  });
  if (entries === null) return [path];
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/**
 * Gives the folder `{cache}/{kind}/{key}`, built first when it is missing.
 * `build` fills a private folder that takes its name only when it is complete, so that no entry is ever half made.
 * @param replace builds it anew even when it exists
 */
export async function cached(
  cache: string,
  kind: string,
  key: string,
  build: (folder: string) => Promise<void>,
  replace = false,
): Promise<string> {
  const entry = join(cache, kind, key);
  if (existsSync(entry) && !replace) return entry;
  const parent = join(cache, kind);
  await mkdir(parent, { recursive: true, mode: 0o755 });
  await sweepPartial(parent);
  const partial = await mkdtemp(join(parent, `.partial-${process.pid}-`));
  try {
    await build(partial);
    // Whatever the umask was: all can read, and nobody but the owner can write.
    await run('chmod', ['-R', 'a+rX,go-w', partial]);
    // The name may outlive a power cut, and has to mean that all of it is there.
    await run('sync', ['--file-system', partial]);
    if (replace) await rm(entry, { recursive: true, force: true });
    await rename(partial, entry).catch((error) => {
      // Another set-up finished the same entry first; the content is the same by its key.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return entry;
}

/** Removes what a build that was killed left behind. */
async function sweepPartial(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = PARTIAL.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      await rm(join(parent, name), { recursive: true, force: true });
    }
  }
}
