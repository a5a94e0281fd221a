import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { verifyFile } from './checksum.ts';
import { commitSnapshot } from './commit.ts';
import { writeHeader } from './header.ts';
import { SnapshotDirectory } from './layout.ts';
import { createMapping, type DirtyRun, mergeMapping } from './merge.ts';
import { openSnapshot, type WithMemory } from './snapshot.ts';
import { build, facts, fc, fillDirectory, property, temporaryDirectory } from './testing.ts';
import { copyWholeMemory } from './whole-memory.ts';

const pages = 64;
const pageBytes = 4096;

/** The act of a guest on each page: nothing, wrote it, or made it zeros. */
const generation = fc.array(fc.constantFrom('keep', 'write', 'clear'), {
  minLength: pages,
  maxLength: pages,
});

/** The runs of a build, its compact memfile, and what the guest's memory is after it. */
function applied(memory: Buffer, what: readonly string[], number: number) {
  const runs: DirtyRun[] = [];
  const stored: Buffer[] = [];
  for (const [page, change] of what.entries()) {
    if (change === 'keep') continue;
    const offset = page * pageBytes;
    const bytes = Buffer.alloc(pageBytes, change === 'write' ? `${number}-${page};` : 0);
    bytes.copy(memory, offset);
    const storageOffset = change === 'write' ? stored.length * pageBytes : null;
    runs.push({ offset, length: pageBytes, storageOffset });
    if (change === 'write') stored.push(bytes);
  }
  return { diff: { build: build(number), runs }, memfile: Buffer.concat(stored) };
}

property.prop([generation, generation])(
  'is every page as the guest had it, whichever build holds it, and holes stay holes',
  async (first, second) => {
    await using dir = await temporaryDirectory();
    const memory = Buffer.alloc(pages * pageBytes);
    const [one, two] = [applied(memory, first, 1), applied(memory, second, 2)];
    const directory = new SnapshotDirectory(dir.path);
    await writeFile(directory.file(`memfile.${build(1)}`), one.memfile);
    await writeFile(directory.file('memfile'), two.memfile);
    const mapping = mergeMapping(createMapping(memory.length, one.diff), two.diff);
    const snapshot = {
      directory,
      header: { generation: 1, build: build(2), baseBuild: build(1), mapping },
    } as WithMemory;
    const path = join(dir.path, 'whole');
    const { diff, sum } = await copyWholeMemory(snapshot, build(3), path);
    expect((await readFile(path)).equals(memory)).toBe(true);
    await verifyFile(path, 'whole', sum);
    const flat = createMapping(memory.length, diff);
    expect(flat.builds.every((owner) => owner === build(3))).toBe(true);
    for (const entry of flat) if (entry.build) expect(entry.storageOffset).toBe(entry.offset);
  },
);

test('is refused when a memfile ends too early, and then is not there', async () => {
  await using dir = await temporaryDirectory();
  const temporary = await fillDirectory(join(dir.path, 'temporary'));
  const mapping = createMapping(2 ** 20, {
    build: build(2),
    runs: [{ offset: 0, length: 4096, storageOffset: 0 }],
  });
  await rm(temporary.file('memfile.header'));
  await writeHeader(temporary, { generation: 0, build: build(2), baseBuild: build(2), mapping });
  const final = new SnapshotDirectory(join(dir.path, 'final'));
  await commitSnapshot({ temporary, final, facts });
  const snapshot = (await openSnapshot(final)) as WithMemory;
  await truncate(final.file('memfile'), 1000);
  const path = join(dir.path, 'whole');
  await expect(copyWholeMemory(snapshot, build(3), path)).rejects.toMatchObject({ name: 'SnapshotDamaged' });
  await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('is given up before any step, and then is not there', async () => {
  await using dir = await temporaryDirectory();
  const directory = new SnapshotDirectory(dir.path);
  await writeFile(directory.file('memfile'), Buffer.alloc(pageBytes, 1));
  const runs = [{ offset: 0, length: pageBytes, storageOffset: 0 }];
  const mapping = createMapping(2 ** 20, { build: build(1), runs });
  const snapshot = {
    directory,
    header: { generation: 0, build: build(1), baseBuild: build(1), mapping },
  } as WithMemory;
  const path = join(dir.path, 'whole');
  const giveUp = () => Promise.reject(new Error('enough'));
  await expect(copyWholeMemory(snapshot, build(3), path, giveUp)).rejects.toThrow('enough');
  await expect(readFile(path)).rejects.toMatchObject({ code: 'ENOENT' });
});
