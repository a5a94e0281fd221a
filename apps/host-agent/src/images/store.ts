/**
 * Base images of this host: one directory each below `images/`, 0700, with the root disk as
 * `rootfs.ext4`, root-owned and 0444. A disk is never changed: another content is another file that takes
 * the name's place, and sandboxes keep the one they started from by a hard link of their own.
 */
import { chmod, chown, link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, placeDurably, sync } from '@perch/node-kit';
import { PerchError, type Template } from '@perch/protocol';
import { run } from '../linux/index.ts';
import { hasContent, noteContent } from './content.ts';

export interface BaseImage {
  name: string;
  /** SHA-256 of the root disk. */
  contentId: string;
  /** Nominal size of the root disk, bytes. */
  sizeBytes: number;
  /** Absolute path of the root disk. */
  rootfs: string;
}

export class ImageStore {
  readonly #dir: string;
  readonly #images = new Map<string, BaseImage>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Reads what is there. */
  async open(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#dir)) {
      if (name.startsWith('.')) {
        await rm(join(this.#dir, name), { recursive: true, force: true });
        continue;
      }
      const rootfs = join(this.#dir, name, 'rootfs.ext4');
      const contentId = (await readFile(join(this.#dir, name, 'content-id'), 'utf8')).trim();
      this.#images.set(name, { name, contentId, sizeBytes: (await stat(rootfs)).size, rootfs });
    }
  }

  /** Takes over an image, unless the name has this content already, and has it still. */
  async import(name: string, source: string, contentId: string): Promise<void> {
    const known = this.#images.get(name);
    if (known?.contentId === contentId && (await hasContent(known.rootfs, contentId))) return;
    const temporary = join(this.#dir, `.${name}-${contentId.slice(0, 12)}`);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { mode: 0o700 });
    const rootfs = join(temporary, 'rootfs.ext4');
    await adoptFile(source, rootfs);
    await noteContent(rootfs, contentId);
    await writeFile(join(temporary, 'content-id'), `${contentId}\n`, { flush: true });
    await sync(temporary);
    const target = join(this.#dir, name);
    // Away in one step: what is removed bit by bit could be left in parts, which the next start could not read.
    const replaced = join(this.#dir, `.replaced-${name}`);
    await rm(replaced, { recursive: true, force: true });
    if (this.#images.has(name)) await rename(target, replaced);
    await placeDurably(temporary, target);
    await rm(replaced, { recursive: true, force: true });
    const sizeBytes = (await stat(join(target, 'rootfs.ext4'))).size;
    this.#images.set(name, { name, contentId, sizeBytes, rootfs: join(target, 'rootfs.ext4') });
  }

  find(name: string): BaseImage | undefined {
    return this.#images.get(name);
  }

  /** @throws PerchError image_damaged when somebody has written to its root disk: what is started on it would be broken */
  async assertWhole({ name, contentId, rootfs }: BaseImage): Promise<void> {
    if (await hasContent(rootfs, contentId)) return;
    const reason = `${rootfs} was changed: it is not the image ${contentId.slice(0, 12)} any more`;
    const details = { template: name, reason };
    throw new PerchError('image_damaged', `The base image ${name} is damaged: ${reason}.`, details);
  }

  all(): BaseImage[] {
    return [...this.#images.values()];
  }

  /** Path of the root disk with this content, undefined when no name has it any more. */
  rootfsOf(contentId: string): string | undefined {
    return [...this.#images.values()].find((image) => image.contentId === contentId)?.rootfs;
  }

  async list(): Promise<Template[]> {
    return Promise.all(
      [...this.#images.values()].map(async ({ name, contentId, sizeBytes, rootfs }) => ({
        name,
        content_id: contentId,
        size_bytes: (await stat(rootfs)).blocks * 512,
        disk_mb: Math.ceil(sizeBytes / 2 ** 20),
      })),
    );
  }
}

/**
 * Puts a read-only, root-owned copy of `source` at `target`: a hard link where both lie on one file system
 * and the source is already what it must be, else a copy (by reflink where the file system has it). It is on the
 * disk then: the source may have been built a moment ago.
 */
export async function adoptFile(source: string, target: string, own = 0o444): Promise<void> {
  const { uid, mode } = await stat(source);
  if (uid === 0 && (mode & 0o777) === own) {
    try {
      await link(source, target);
      return await sync(target);
    } catch (error) {
      if (!hasCode(error, 'EXDEV')) throw error;
    }
  }
  await run('cp', ['--reflink=auto', '--sparse=always', '--', source, target], { timeoutMs: 600_000 });
  await chown(target, 0, 0);
  await chmod(target, own);
  await sync(target);
}
