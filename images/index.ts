import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { baseKey, buildBase, readImageInfo } from './base/base.ts';
import { cacheDir } from './cache.ts';
import { BuildError } from './errors.ts';
import { buildInitramfs, initramfsKey } from './initramfs/initramfs.ts';
import { buildKernel, kernelKey, readKernelInfo } from './kernel/kernel.ts';
import { buildProgram, guestAgent, pager, programKey } from './programs.ts';

export { cacheDir } from './cache.ts';
export { BuildError } from './errors.ts';

/** The files that a guest is started from, and a program beside it. Paths are absolute; all files are to be read only. */
export type Artifacts = {
  /** Uncompressed ELF kernel with a PVH entry; a bzImage where it could not be unpacked. */
  kernel: string;
  /** The answer of `uname -r` in the guest. */
  kernelRelease: string;
  initramfs: string;
  /** The static guest agent, which the initramfs also holds as `/init`. */
  guestAgent: string;
  /** The static program that serves the memory of guests that go on. */
  pager: string;
  base: {
    /** Raw ext4 image. */
    rootfs: string;
    /** SHA-256 of the image. */
    contentId: string;
    sizeBytes: number;
  };
};

export type EnsureOptions = {
  cache?: string;
  /** Receives one line for each step. */
  log: (line: string) => void;
  /** Builds the kernel and the base image anew, with the packages that Debian has today. */
  refresh?: boolean;
};

const ROOT = join(import.meta.dirname, '..');

/**
 * Finds what `ensureArtifacts` built for the sources as they are now. Runs no program.
 * @throws {BuildError} when something is missing
 */
export async function resolveArtifacts(cache: string = cacheDir()): Promise<Artifacts> {
  const [agentKey, pagerKey, kernel, base] = await Promise.all([
    programKey(ROOT, guestAgent),
    programKey(ROOT, pager),
    kernelKey(ROOT),
    baseKey(ROOT),
  ]);
  return await describe({
    agent: join(cache, guestAgent.kind, agentKey),
    pager: join(cache, pager.kind, pagerKey),
    kernel: join(cache, 'kernel', kernel),
    initramfs: join(cache, 'initramfs', await initramfsKey(ROOT, agentKey, kernel)),
    base: join(cache, 'images/base', base),
  });
}

/** Builds the missing parts, side by side. Built parts stay, even when another step fails. */
export async function ensureArtifacts(options: EnsureOptions): Promise<Artifacts> {
  const { cache = cacheDir(), log, refresh = false } = options;
  const step = stepLogger(log);
  const built = await Promise.allSettled([
    step('guest agent', 'half a minute', () => buildProgram(ROOT, cache, guestAgent)),
    step('pager', 'half a minute', () => buildProgram(ROOT, cache, pager)),
    step('guest kernel', 'seconds', () => buildKernel(ROOT, cache, refresh)),
    step('base image', 'a minute', () => buildBase(ROOT, cache, refresh)),
  ]);
  const [agent, served, kernel, base] = built.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  }) as [string, string, string, string];
  const initramfs = await step('initramfs', 'seconds', async () => {
    const key = await initramfsKey(ROOT, await programKey(ROOT, guestAgent), await kernelKey(ROOT));
    return await buildInitramfs(cache, key, join(agent, guestAgent.name), kernel);
  });
  return await describe({ agent, pager: served, kernel, initramfs, base });
}

type Folders = { agent: string; pager: string; kernel: string; initramfs: string; base: string };

async function describe(folders: Folders): Promise<Artifacts> {
  for (const folder of Object.values(folders)) {
    if (existsSync(folder)) continue;
    throw new BuildError(`${folder} is missing`, 'Run `npm run setup` to build it.');
  }
  const kernel = await readKernelInfo(folders.kernel);
  const image = await readImageInfo(folders.base);
  return {
    kernel: join(folders.kernel, kernel.file),
    kernelRelease: kernel.release,
    initramfs: join(folders.initramfs, 'initramfs.cpio'),
    guestAgent: join(folders.agent, guestAgent.name),
    pager: join(folders.pager, pager.name),
    base: { rootfs: join(folders.base, 'rootfs.ext4'), contentId: image.content_id, sizeBytes: image.size },
  };
}

/** Says how long each step took, and that a slow one has begun. */
function stepLogger(log: (line: string) => void) {
  return async <T>(name: string, usually: string, work: () => Promise<T>): Promise<T> => {
    const start = performance.now();
    const notice = setTimeout(() => log(`… ${name}: building, usually ${usually}`), 300);
    try {
      const result = await work();
      log(`✓ ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
      return result;
    } finally {
      clearTimeout(notice);
    }
  };
}
