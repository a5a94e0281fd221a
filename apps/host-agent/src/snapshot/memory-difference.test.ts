/** Whatever a monitor's differences are since, the files of each state are the memory that the guest had. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { fill } from '../vmm/qemu/fill.ts';
import { type BuildId, newBuildId } from './build-id.ts';
import type { Run } from './mapping.ts';
import { copyDifference, headerOf, inheritedBuilds, type MemoryDifference } from './memory-difference.ts';
import { flatMemoryOf, type MemoryImage } from './memory-image.ts';
import { createMapping } from './merge.ts';
import { fc, property, temporaryDirectory } from './testing.ts';
import { copyMapped } from './whole-memory.ts';

const pageBytes = 4096;
const pages = 12;
const memoryBytes = pages * pageBytes;
const all = Array.from({ length: pages }, (_, page) => page);

function runsOf(touched: Iterable<number>): Run[] {
  const runs: Run[] = [];
  for (const page of [...touched].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    const offset = page * pageBytes;
    if (last && last.offset + last.length === offset) last.length += pageBytes;
    else runs.push({ offset, length: pageBytes });
  }
  return runs;
}

/** A machine whose monitor knows of each page whether it was written, since one moment or another. */
class Machine {
  readonly memory: Buffer;
  readonly #since: MemoryDifference['since'];
  readonly #written = new Set<number>();
  #state: BuildId | undefined;

  private constructor(since: MemoryDifference['since'], memory: Buffer, state?: BuildId) {
    this.#since = since;
    this.memory = memory;
    this.#state = state;
  }

  static boot(since: MemoryDifference['since']): Machine {
    return new Machine(since, Buffer.alloc(memoryBytes));
  }

  static async restore(since: MemoryDifference['since'], image: MemoryImage): Promise<Machine> {
    const machine = new Machine(since, await readFile(flatMemoryOf(image)), image.header.build);
    await fill(image, async (runs, from) => {
      let at = 0;
      for (const { offset, length } of runs) {
        Buffer.from(from).copy(machine.memory, offset, at, at + length);
        for (let done = 0; done < length; done += pageBytes) machine.#touch((offset + done) / pageBytes);
        at += length;
      }
    });
    if (since === 'parent') machine.#written.clear();
    return machine;
  }

  write(page: number, value: number): void {
    this.memory.fill(value, page * pageBytes, (page + 1) * pageBytes);
    this.#touch(page);
  }

  #touch(page: number): void {
    this.#written.add(page);
  }

  save(build: BuildId, parent: BuildId | undefined): MemoryDifference {
    const knows = this.#since === 'mapped-file' || this.#state === parent;
    const runs = runsOf(knows ? this.#written : all);
    if (this.#since === 'parent') this.#written.clear();
    this.#state = build;
    const read = async (wanted: readonly Run[], into: Uint8Array) => {
      const parts = wanted.map(({ offset, length }) => this.memory.subarray(offset, offset + length));
      into.set(Buffer.concat(parts));
    };
    return { since: this.#since, runs, read };
  }
}

/** A state that was kept: its files, and what they have to be. */
interface Kept {
  image: MemoryImage;
  files: Map<BuildId, string>;
  memory: Buffer;
}

async function save(machine: Machine, dir: string, parent: Kept | undefined): Promise<Kept> {
  const build = newBuildId();
  const target = { build, parent: parent?.image, memoryBytes };
  const path = join(dir, build);
  const difference = machine.save(build, parent?.image.header.build);
  const { diff } = await copyDifference(difference, target, path);
  const header = await headerOf(difference.since, diff, target);
  const files = new Map([[build, path]]);
  for (const one of inheritedBuilds(header)) files.set(one, parent?.files.get(one) ?? 'nowhere');
  const memfileOf = (one: BuildId) => files.get(one) ?? 'nowhere';
  return { image: { header, headerFile: '', memfileOf }, files, memory: Buffer.from(machine.memory) };
}

/** The same state with all its memory in one file, as a merge makes of it. */
async function flatten({ image, memory }: Kept, dir: string): Promise<Kept> {
  const { build, mapping, generation } = image.header;
  const path = join(dir, newBuildId());
  const opened = new Map<BuildId, Buffer>();
  for (const one of mapping.builds) opened.set(one, await readFile(image.memfileOf(one)));
  const read = (one: BuildId, into: Buffer, at: number) => opened.get(one)?.copy(into, 0, at) ?? 0;
  const { diff } = await copyMapped(mapping, read, build, path);
  const header = { generation, build, baseBuild: build, mapping: createMapping(memoryBytes, diff) };
  return {
    image: { header, headerFile: '', memfileOf: () => path },
    files: new Map([[build, path]]),
    memory,
  };
}

const page = fc.nat(pages - 1);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ does: fc.constant('write' as const), page, value: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('save' as const), kept: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('restore' as const), which: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('merge' as const) }) },
);

property.prop(
  [
    fc.constantFrom('mapped-file' as const, 'parent' as const),
    fc.array(step, { minLength: 10, maxLength: 30 }),
  ],
  { numRuns: 40 },
)('each state is the memory that its guest had, over any lives', async (since, steps) => {
  await using dir = await temporaryDirectory();
  let machine = Machine.boot(since);
  let parent: Kept | undefined;
  const kept: Kept[] = [];
  for (const one of steps) {
    if (one.does === 'write') machine.write(one.page, one.value);
    else if (one.does === 'merge') parent &&= await flatten(parent, dir.path);
    else if (one.does === 'save') {
      const state = await save(machine, dir.path, parent);
      if (!one.kept) continue;
      parent = state;
      kept.push(state);
    } else if (kept.length > 0) {
      parent = kept[one.which % kept.length] as Kept;
      machine = await Machine.restore(since, parent.image);
      expect(machine.memory.equals(parent.memory)).toBe(true);
    }
  }
  for (const { image, memory } of kept) {
    expect((await Machine.restore(since, image)).memory.equals(memory)).toBe(true);
  }
});
