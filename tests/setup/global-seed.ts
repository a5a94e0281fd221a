/** Makes the seed from which each Perch of a test's own starts. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endWithLab } from './lab-end.ts';
import { PerchInstance, seedVariable } from './perch-instance.ts';
import { plant } from './seed.ts';

/** Those of most sandboxes in the tests. */
const shapes = [256, 128].map((memory_mb) => ({ memory_mb, disk_mb: 1024 }));

/** @returns what removes it, unless it is there already: projects that run together have one */
export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env[seedVariable] !== undefined) return undefined;
  const seed = await mkdtemp(join(tmpdir(), 'perch-seed-'));
  await using instance = await PerchInstance.start({ network: 76 });
  const { sandboxes } = instance.perch;
  for (const shape of shapes) {
    const { id } = await sandboxes.create(shape).catch(endWithLab);
    await sandboxes.delete(id);
  }
  await plant(instance.dataDir, seed);
  process.env[seedVariable] = seed;
  return async () => {
    delete process.env[seedVariable];
    await rm(seed, { recursive: true });
  };
}
