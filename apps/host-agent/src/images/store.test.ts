import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { imageIdOf } from './content.ts';
import { ImageStore } from './store.ts';

const isRoot = process.getuid?.() === 0;

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'perch-images-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  return dir;
}

async function opened(dir: string): Promise<ImageStore> {
  const store = new ImageStore(join(dir, 'images'));
  await store.open();
  return store;
}

test.runIf(isRoot)('an image takes the place of another, and nothing is left of that', async () => {
  const dir = await folder();
  const store = await opened(dir);
  for (const content of ['one', 'two']) {
    await writeFile(join(dir, content), content);
    await store.import('base', join(dir, content), content);
  }
  const again = await opened(dir);
  expect(again.find('base')?.contentId).toBe('two');
  expect(await readFile(again.rootfsOf('two') ?? '', 'utf8')).toBe('two');
  expect(await readdir(join(dir, 'images'))).toEqual(['base']);
});

test.runIf(isRoot)(
  'a start finds no image where one was being replaced, and takes it over again',
  async () => {
    const dir = await folder();
    const images = join(dir, 'images');
    for (const hidden of ['.base-one', '.replaced-base'])
      await mkdir(join(images, hidden), { recursive: true });
    const store = await opened(dir);
    expect(store.all()).toEqual([]);
    await writeFile(join(dir, 'one'), 'one');
    await store.import('base', join(dir, 'one'), 'one');
    expect(await readdir(images)).toEqual(['base']);
  },
);

test.runIf(isRoot)(
  'an image that was changed in place is refused, and the next start takes it over anew',
  async () => {
    const dir = await folder();
    const [built, again] = [join(dir, 'built'), join(dir, 'again')];
    for (const path of [built, again]) await writeFile(path, 'one');
    const id = await imageIdOf(built);
    const store = await opened(dir);
    await store.import('base', built, id);
    const image = store.find('base');
    if (!image) throw new Error('It has no image');
    await store.assertWhole(image);
    await writeFile(image.rootfs, 'eno');
    await utimes(image.rootfs, 1_700_000_000, 1_700_000_000);
    await expect(store.assertWhole(image)).rejects.toMatchObject({
      ...{ code: 'image_damaged', details: { template: 'base' } },
      message: `The base image base is damaged: ${image.rootfs} was changed: it is not the image ${id.slice(0, 12)} any more.`,
    });
    const next = await opened(dir);
    await next.import('base', again, id);
    await next.assertWhole(next.find('base') ?? image);
    expect(await readFile(image.rootfs, 'utf8')).toBe('one');
  },
);
