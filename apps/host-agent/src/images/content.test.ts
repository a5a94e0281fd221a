import { createHash } from 'node:crypto';
import { linkSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../linux/index.ts';
import { hasContent, imageIdOf, noteContent } from './content.ts';

const isRoot = process.getuid?.() === 0;
/** Of no file: whoever finds it has read a note. */
const anyId = 'ab'.repeat(32);

async function imageIn(dir: string): Promise<string> {
  const path = join(dir, 'rootfs.ext4');
  writeFileSync(path, 'a'.repeat(9000));
  // The clock of the kernel is coarse: a test is quicker than it.
  utimesSync(path, 1_700_000_000, 1_700_000_000);
  return path;
}

/** As `dd conv=notrunc` does. */
const overwrite = (path: string, letter: string) => writeFileSync(path, letter.repeat(9000), { flag: 'r+' });

test('an image that was overwritten in place has another content, until it is put back', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
  const path = await imageIn(dir.path);
  const id = await imageIdOf(path);
  expect([await hasContent(path, id), await hasContent(path, id)]).toEqual([true, true]);
  overwrite(path, 'b');
  expect([await hasContent(path, id), await hasContent(path, id)]).toEqual([false, false]);
  overwrite(path, 'a');
  expect(await hasContent(path, id)).toBe(true);
});

test.runIf(isRoot)(
  'an image that nobody wrote to is not read, by whichever name it is asked for',
  async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
    const path = await imageIn(dir.path);
    await noteContent(path, anyId);
    const other = join(dir.path, 'rootfs.base');
    linkSync(path, other);
    renameSync(path, `${path}.moved`);
    expect([await hasContent(other, anyId), await hasContent(`${path}.moved`, anyId)]).toEqual([true, true]);
    expect(await hasContent(other, 'cd'.repeat(32))).toBe(false);
  },
);

test.runIf(isRoot)(
  'an image that was changed before it is taken over again is not taken for whole',
  async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
    const path = await imageIn(dir.path);
    const id = await imageIdOf(path);
    await noteContent(path, id);
    overwrite(path, 'b');
    await noteContent(path, id);
    expect(await hasContent(path, id)).toBe(false);
  },
);

test('the content of an image does not depend on where it has holes', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
  const [sparse, full] = [join(dir.path, 'sparse'), join(dir.path, 'full')];
  const data = Buffer.alloc(3 * 2 ** 20);
  data.fill('a', 2 ** 20, 2 ** 20 + 5000);
  writeFileSync(full, data);
  await run('cp', ['--sparse=always', '--', full, sparse], { timeoutMs: 10_000 });
  expect(statSync(sparse).blocks).toBeLessThan(statSync(full).blocks);
  const sum = createHash('sha256').update(data).digest('hex');
  expect([await imageIdOf(full), await imageIdOf(sparse)]).toEqual([sum, sum]);
});

test('a large image is read by another thread than the one that serves everybody', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
  const path = await imageIn(dir.path);
  await truncate(path, 2 ** 30);
  const [all, own] = [process.cpuUsage(), process.threadCpuUsage()];
  await imageIdOf(path);
  const { user, system } = process.cpuUsage(all);
  const { user: ownUser, system: ownSystem } = process.threadCpuUsage(own);
  expect(ownUser + ownSystem).toBeLessThan((user + system) / 2);
});

test('an image that is not there is told by its code', async () => {
  await expect(imageIdOf('/nowhere/rootfs.ext4')).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a flattened disk is known by the name that Perch 0.1 gave it', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-content-'));
  const path = await imageIn(dir.path);
  const id = createHash('sha256')
    .update(`9000\n0 9000\n${'a'.repeat(9000)}`)
    .digest('hex');
  expect(await hasContent(path, id)).toBe(true);
  overwrite(path, 'b');
  expect(await hasContent(path, id)).toBe(false);
});
