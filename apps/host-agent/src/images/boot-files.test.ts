import { createHash } from 'node:crypto';
import { chmod, cp, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { adoptBootFiles } from './boot-files.ts';

const isRoot = process.getuid?.() === 0;
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

async function folder(): Promise<{ dir: string; file: (name: string, content: string) => Promise<string> }> {
  const dir = await mkdtemp(join(tmpdir(), 'perch-boot-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const file = async (name: string, content: string) => {
    const path = join(dir, name);
    await writeFile(path, content);
    return path;
  };
  return { dir, file };
}

test.runIf(isRoot)(
  'boot files are known by all of their bytes, and another content is another file',
  async () => {
    const { dir, file } = await folder();
    // More than is read at once.
    const long = 'kernel'.repeat(100_000);
    const initramfs = await file('initramfs', 'initramfs');
    const one = await adoptBootFiles(join(dir, 'boot'), await file('one', `${long}1`), initramfs);
    const two = await adoptBootFiles(join(dir, 'boot'), await file('two', `${long}2`), initramfs);
    expect([one.kernelId, two.kernelId]).toEqual([sha256(`${long}1`), sha256(`${long}2`)]);
    expect(two.initramfsId).toBe(sha256('initramfs'));
    expect(two.initramfs).toBe(one.initramfs);
    expect(await readFile(one.kernel, 'utf8')).toBe(`${long}1`);
    expect(await readdir(join(dir, 'boot'))).toHaveLength(3);
  },
);

test.runIf(isRoot)('a boot file that is a link of the source is known without being read again', async () => {
  const { dir, file } = await folder();
  const [kernel, initramfs] = [await file('kernel', 'kernel'), await file('initramfs', 'initramfs')];
  for (const path of [kernel, initramfs]) await chmod(path, 0o444);
  const first = await adoptBootFiles(join(dir, 'boot'), kernel, initramfs);
  expect((await stat(first.kernel)).ino).toBe((await stat(kernel)).ino);
  const told = 'f'.repeat(64);
  await rename(first.kernel, join(dir, 'boot', `vmlinuz-${told}`));
  expect((await adoptBootFiles(join(dir, 'boot'), kernel, initramfs)).kernelId).toBe(told);
  // A copy of the same bytes may be anything.
  await cp(kernel, join(dir, 'copy'));
  expect((await adoptBootFiles(join(dir, 'boot'), join(dir, 'copy'), initramfs)).kernelId).toBe(
    sha256('kernel'),
  );
});
