/** Kernel and initramfs, on the file system of the state, where VMs get hard links to them. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { adoptFile } from './store.ts';

export interface BootFiles {
  kernel: string;
  initramfs: string;
}

/** Takes them over by content: files that running sandboxes started from are never changed. */
export async function adoptBootFiles(dir: string, kernel: string, initramfs: string): Promise<BootFiles> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return { kernel: await adopt(dir, kernel, 'vmlinuz'), initramfs: await adopt(dir, initramfs, 'initramfs') };
}

async function adopt(dir: string, source: string, name: string): Promise<string> {
  const digest = createHash('sha256')
    .update(await readFile(source))
    .digest('hex');
  const target = join(dir, `${name}-${digest.slice(0, 16)}`);
  if (await stat(target).catch(() => undefined)) return target;
  const temporary = `${target}.tmp`;
  await rm(temporary, { force: true });
  await adoptFile(source, temporary);
  await rename(temporary, target);
  return target;
}
