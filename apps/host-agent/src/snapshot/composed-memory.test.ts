/** Composes where the temporary directory has reflinks, as it does in the lab with `--data xfs`. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { hasClones } from '../linux/index.ts';
import type { BuildId } from './build-id.ts';
import { composeMemory } from './composed-memory.ts';
import { type Mapping, pageBytes } from './mapping.ts';
import { createMapping, type DirtyRun, mergeMapping } from './merge.ts';
import { build, fc, property, temporaryDirectory } from './testing.ts';

const pages = 24;
const memoryBytes = pages * pageBytes;

/** Of each page: untouched, zeros, or bytes of this state alone. */
const state = fc.array(fc.constantFrom('same', 'zeros', 'bytes'), { minLength: pages, maxLength: pages });

property.prop([fc.array(state, { minLength: 1, maxLength: 4 })], { numRuns: 20 })(
  'a file of the blocks of a chain is its memory; where there are no reflinks there is none',
  async (states) => {
    await using dir = await temporaryDirectory();
    const memory = Buffer.alloc(memoryBytes);
    let mapping: Mapping | undefined;
    for (const [at, touched] of states.entries()) {
      const stored: Buffer[] = [];
      const flat = Buffer.alloc(memoryBytes);
      const runs = touched.flatMap((how, page): DirtyRun[] => {
        if (how === 'same') return [];
        const [offset, length] = [page * pageBytes, pageBytes];
        const bytes = Buffer.alloc(pageBytes, how === 'zeros' ? 0 : 1 + at * pages + page);
        bytes.copy(memory, offset);
        if (how === 'zeros') return [{ offset, length, storageOffset: null }];
        bytes.copy(flat, offset);
        stored.push(bytes);
        return [{ offset, length, storageOffset: at === 0 ? offset : (stored.length - 1) * pageBytes }];
      });
      const diff = { build: build(at + 1), runs };
      mapping = mapping ? mergeMapping(mapping, diff) : createMapping(memoryBytes, diff);
      await writeFile(join(dir.path, build(at + 1)), at === 0 ? flat : Buffer.concat(stored));
    }
    if (!mapping) return;
    const header = {
      ...{ generation: states.length - 1, build: build(states.length), baseBuild: build(1), mapping },
    };
    const image = { header, headerFile: '', memfileOf: (one: BuildId) => join(dir.path, one) };
    const path = join(dir.path, 'composed');
    const isDone = await composeMemory(image, path);
    expect(isDone).toBe(await hasClones(dir.path));
    if (isDone) expect((await readFile(path)).equals(memory)).toBe(true);
    else expect(await readdir(dir.path)).not.toContain('composed');
  },
);
