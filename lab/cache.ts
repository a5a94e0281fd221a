/** Built parts of labs: by content, made by one run at a time while others wait for it, and the newest kept. */
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryLockFile } from '../apps/host-agent/src/linux/index.ts';
import { cached } from '../images/cache.ts';

/** Of each kind. They take half a gigabyte to three. */
const kept = 3;
const pollMs = 100;

export interface Part {
  cache: string;
  kind: string;
  key: string;
}

/**
 * Gives the part's folder, built where it is missing.
 * @param replace builds it anew even when it is there
 */
export async function labPart(
  part: Part,
  build: (folder: string) => Promise<void>,
  replace = false,
): Promise<string> {
  const { cache, kind, key } = part;
  const dir = join(cache, kind);
  if (replace || !existsSync(join(dir, key)))
    await withLock(part, () => cached(cache, kind, key, build, replace));
  await keepNewest(dir, key);
  return join(dir, key);
}

/** One process at a time does work on a part. The lock ends with the process. */
export async function withLock<T>({ cache, kind, key }: Part, work: () => Promise<T>): Promise<T> {
  await mkdir(join(cache, kind), { recursive: true });
  await using file = await open(join(cache, kind, `.lock-${key}`), 'a', 0o600);
  while (!tryLockFile(file.fd)) await sleep(pollMs);
  return await work();
}

/** Removes all but the parts that were used last. A lab that runs has its files open, and keeps them. */
async function keepNewest(dir: string, used: string): Promise<void> {
  const now = new Date();
  await utimes(join(dir, used), now, now);
  const names = (await readdir(dir)).filter((name) => !name.startsWith('.'));
  const times = await Promise.all(
    // Another run may remove it meanwhile.
    names.map(async (name) => ({
      name,
      at: (await stat(join(dir, name)).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  const old = times.sort((a, b) => b.at - a.at).slice(kept);
  for (const { name } of old) await rm(join(dir, name), { recursive: true, force: true });
}
