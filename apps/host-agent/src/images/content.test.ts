import { linkSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
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
