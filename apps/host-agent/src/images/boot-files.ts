/** Kernel, initramfs and programs, on the file system of the state, where VMs get hard links to them. */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { placeDurably } from '@perch/node-kit';
import { adoptFile } from './store.ts';

export interface BootFiles {
  kernel: string;
  initramfs: string;
  /** SHA-256 of each. */
  kernelId: string;
  initramfsId: string;
}

interface BootFile {
  path: string;
  digest: string;
}

/** A kernel has tens of MiB, which would stay in the memory of the process for long. */
const readBytes = 256 * 1024;

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

/** The same of a program that the users of VMs run. @returns its path */
export async function adoptProgram(dir: string, source: string, name: string): Promise<string> {
  return (await adopt(dir, source, name, 0o555)).path;
}

async function adopt(dir: string, source: string, name: string, mode = 0o444): Promise<BootFile> {
  const linked = await findLink(dir, source, name);
  if (linked) return linked;
  const digest = await sha256Of(source);
  const target = join(dir, `${name}-${digest}`);
  if (await stat(target).catch(() => undefined)) return { path: target, digest };
  const temporary = `${target}.tmp`;
  await rm(temporary, { force: true });
  await adoptFile(source, temporary, mode);
  await placeDurably(temporary, target);
  return { path: target, digest };
}

/** The name by which the file itself was taken over: it is never changed, so it need not be read again. */
async function findLink(dir: string, source: string, name: string): Promise<BootFile | undefined> {
  const { dev, ino } = await stat(source);
  for (const entry of await readdir(dir)) {
    const [, digest] = new RegExp(`^${name}-([0-9a-f]{64})$`).exec(entry) ?? [];
    if (digest === undefined) continue;
    const path = join(dir, entry);
    const is = await stat(path);
    if (is.dev === dev && is.ino === ino) return { path, digest };
  }
  return undefined;
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  await using file = await open(path);
  const buffer = Buffer.allocUnsafe(readBytes);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
  }
}
