/** Kernel and initramfs, on the file system of the state, where VMs get hard links to them. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sync } from '../linux/index.ts';
import { adoptFile } from './store.ts';

export interface BootFiles {
  kernel: string;
  initramfs: string;
  /** SHA-256 of each. */
  kernelId: string;
  initramfsId: string;
}

/** Takes them over by content: files that running sandboxes started from are never changed. */
export async function adoptBootFiles(dir: string, kernel: string, initramfs: string): Promise<BootFiles> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const [kernelFile, initramfsFile] = [
    await adopt(dir, kernel, 'vmlinuz'),
    await adopt(dir, initramfs, 'initramfs'),
  ];
  return {
    kernel: kernelFile.path,
    initramfs: initramfsFile.path,
    kernelId: kernelFile.digest,
    initramfsId: initramfsFile.digest,
  };
}

async function adopt(dir: string, source: string, name: string): Promise<{ path: string; digest: string }> {
  const digest = createHash('sha256')
    .update(await readFile(source))
    .digest('hex');
  const target = join(dir, `${name}-${digest.slice(0, 16)}`);
  if (await stat(target).catch(() => undefined)) return { path: target, digest };
  const temporary = `${target}.tmp`;
  await rm(temporary, { force: true });
  await adoptFile(source, temporary);
  await rename(temporary, target);
  await sync(dir);
  return { path: target, digest };
}
