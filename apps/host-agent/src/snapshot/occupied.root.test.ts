/** Files that share blocks, on a file system of their own. Needs mkfs.xfs, as a lab host has it. */
import { link, mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { canMake, SmallFileSystem } from '../linux/file-system-testing.ts';
import { cloneFile, sharedBlocks } from '../linux/index.ts';
import { occupiedBy } from './occupied.ts';

const MiB = 2 ** 20;

describe.runIf(canMake('xfs'))('on a file system with reflinks', () => {
  test('a block that several files share counts once, and as shared when a file elsewhere has it', async () => {
    using disk = new SmallFileSystem('xfs');
    const at = (...names: string[]) => join(disk.path, ...names);
    for (const name of ['first', 'second', 'fork']) await mkdir(at(name));
    await written(at('first', 'store'), 8);
    // The second has all of the first but 1 MiB, which it wrote since.
    await cloned(at('first', 'store'), at('second', 'store'), 1);
    await written(at('second', 'memory'), 3);
    const both = [at('first'), at('second')];

    expect(await occupiedBy([at('first')])).toEqual({ ownBytes: MiB, sharedBytes: 7 * MiB });
    expect(await occupiedBy([at('second')])).toEqual({ ownBytes: 4 * MiB, sharedBytes: 7 * MiB });
    expect(await occupiedBy(both)).toEqual({ ownBytes: 5 * MiB, sharedBytes: 7 * MiB });
    expect(await occupiedBy(both, [disk.path])).toEqual({ ownBytes: 12 * MiB, sharedBytes: 0 });

    await cloned(at('first', 'store'), at('fork', 'store'), 3);
    expect(await occupiedBy([at('fork')])).toEqual({ ownBytes: 3 * MiB, sharedBytes: 5 * MiB });
    expect(await occupiedBy(both, [disk.path])).toEqual({ ownBytes: 7 * MiB, sharedBytes: 5 * MiB });
    const all = [...both, at('fork')];
    expect(await occupiedBy(all, [disk.path])).toEqual({ ownBytes: 15 * MiB, sharedBytes: 0 });
  });

  test('a block of a file that has another name elsewhere is shared, whoever else has it', async () => {
    using disk = new SmallFileSystem('xfs');
    const at = (...names: string[]) => join(disk.path, ...names);
    for (const name of ['template', 'start', 'vm']) await mkdir(at(name));
    await written(at('template', 'store'), 8);
    await link(at('template', 'store'), at('start', 'store'));
    await cloned(at('template', 'store'), at('vm', 'store'), 2);
    const ours = [at('start'), at('vm')];
    expect(await occupiedBy(ours, [disk.path])).toEqual({ ownBytes: 2 * MiB, sharedBytes: 8 * MiB });
    expect(await occupiedBy([...ours, at('template')], [disk.path])).toEqual({
      ...{ ownBytes: 10 * MiB, sharedBytes: 0 },
    });
  });

  test('many parts of a file are told, in its order', async () => {
    using disk = new SmallFileSystem('xfs');
    const [from, to] = ['from', 'to'].map((name) => join(disk.path, name)) as [string, string];
    await written(from, 16);
    await cloned(from, to, 0);
    await using file = await open(to, 'r+');
    const every = 16 * 1024;
    for (let offset = 0; offset < 16 * MiB; offset += every)
      await file.write(Buffer.alloc(4096, 2), 0, 4096, offset);
    await file.sync();
    const parts = await sharedBlocks(file.fd);
    expect(parts.length).toBe((16 * MiB) / every);
    expect(new Set(parts.map(({ length }) => length))).toEqual(new Set([every - 4096]));
    expect(parts.reduce((bytes, { length }) => bytes + length, 0)).toBeLessThan((await stat(to)).size);
  });
});

async function written(path: string, mebibytes: number): Promise<void> {
  await using file = await open(path, 'wx');
  await file.writeFile(Buffer.alloc(mebibytes * MiB, 1));
  await file.sync();
}

/** A clone whose first bytes are written anew. */
async function cloned(from: string, to: string, mebibytes: number): Promise<void> {
  await using source = await open(from);
  await using file = await open(to, 'wx');
  expect(cloneFile(source.fd, file.fd)).toBe(true);
  await file.write(Buffer.alloc(mebibytes * MiB, 2), 0, mebibytes * MiB, 0);
  await file.sync();
}
