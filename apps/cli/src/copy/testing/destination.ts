/** Where a test copies a directory to. */
import { mkdir, mkdtempDisposable, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

/** A directory `to` is to be made in, beside something that must stay as it is. */
export async function place() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-copy-'));
  await mkdir(join(dir.path, 'in'));
  await mkdir(join(dir.path, 'outside'));
  await writeFile(join(dir.path, 'outside/kept'), 'kept');
  return {
    to: join(dir.path, 'in/to'),
    async expectUntouched(inside: string[]) {
      expect(await readdir(dir.path)).toEqual(['in', 'outside']);
      expect(await readdir(join(dir.path, 'in'))).toEqual(inside);
      expect(await readdir(join(dir.path, 'outside'))).toEqual(['kept']);
      expect(await readFile(join(dir.path, 'outside/kept'), 'utf8')).toBe('kept');
    },
    [Symbol.asyncDispose]: () => dir.remove(),
  };
}
