import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { commitSnapshot } from './commit.ts';
import { exchangeSnapshots, whileInPlace } from './exchange.ts';
import { SnapshotDirectory } from './layout.ts';
import { verifySnapshot } from './snapshot.ts';
import { facts, fillDirectory, temporaryDirectory } from './testing.ts';

async function committed(path: string, cpu: string): Promise<SnapshotDirectory> {
  const final = new SnapshotDirectory(path);
  await commitSnapshot({ temporary: await fillDirectory(`${path}.new`), final, facts: { ...facts, cpu } });
  return final;
}

test('what is read while another takes its place is all of the other', async () => {
  await using dir = await temporaryDirectory();
  await mkdir(join(dir.path, 'beside'));
  const place = await committed(join(dir.path, 'place'), 'old');
  const made = await committed(join(dir.path, 'beside/made'), 'new');
  let reads = 0;
  const found = await whileInPlace(place, async () => {
    if (++reads > 1) return verifySnapshot(place);
    await exchangeSnapshots(made, place);
    await made.remove();
    return verifySnapshot(made);
  });
  expect(found.manifest.cpu).toBe('new');
  expect(reads).toBe(2);
});

test('what is damaged in its place is damaged', async () => {
  await using dir = await temporaryDirectory();
  const place = await committed(join(dir.path, 'place'), 'old');
  await writeFile(place.file('memfile'), 'other');
  await expect(whileInPlace(place, () => verifySnapshot(place))).rejects.toThrow('memfile');
  await rm(place.path, { recursive: true });
  await expect(whileInPlace(place, () => verifySnapshot(place))).rejects.toThrow('is missing');
});
