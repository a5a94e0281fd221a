/**
 * A directory of 20,000 small files into a sandbox and out of it by `perch cp -r`, against the same files one by one:
 * 1,000 of them through one client, times twenty.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtempDisposable, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cli } from '../tests/setup/perch-instance.ts';
import type { Measure } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';

const directories = 100;
const filesEach = 200;
const files = directories * filesEach;
const single = 1000;
const turns = { n: 3, warmUp: 0 };
const targets = { ratio_p50: 0.1 };

export const tree: Measure = async ({ instance, sandbox, signal, progress }) => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-bench-tree-'));
  const here = (name: string) => join(dir.path, name);
  const content = (number: number) => `${'x'.repeat(number % 4000)}\n`;
  for (let number = 0; number < files; number++) {
    const inside = here(`tree/${number % directories}`);
    if (number < directories) await mkdir(inside, { recursive: true });
    await writeFile(join(inside, String(number)), content(number));
  }
  const api = instance.perch.sandboxes.files;
  const cp = (...args: string[]) =>
    promisify(execFile)(process.execPath, [cli, 'cp', '-r', ...args], { env: instance.env, signal });
  // The disk has not the inodes for all turns.
  const fresh = async (name: string) => {
    await api.remove(sandbox, name);
    await api.mkdir(sandbox, name);
  };
  progress(`${files} small files into a sandbox, against one by one`);
  const into = await inTurn(
    {
      samples: async () => {
        await fresh('in');
        return timed(() => cp(here('tree'), `${sandbox}:in/`));
      },
      floor: async () => {
        await fresh('single');
        const write = (number: number) =>
          api.write(sandbox, `single/${number}`, content(number), { mode: 0o644 });
        return (files / single) * (await timed(() => each(single, write)));
      },
    },
    { ...turns, signal },
  );
  progress(`${files} small files out of a sandbox, against one by one`);
  const out = await inTurn(
    {
      samples: async () => {
        const took = await timed(() => cp(`${sandbox}:in/tree`, here('out')));
        const came = await readdir(here('out'), { recursive: true });
        if (came.length !== files + directories) throw new Error(`Of ${files} files ${came.length} came.`);
        await rm(here('out'), { recursive: true });
        return took;
      },
      floor: async () => {
        await mkdir(here('single'));
        const read = async (number: number) =>
          writeFile(
            here(`single/${number}`),
            await api.read(sandbox, `in/tree/${number % directories}/${number}`),
          );
        const took = await timed(() => each(single, read));
        await rm(here('single'), { recursive: true });
        return (files / single) * took;
      },
    },
    { ...turns, signal },
  );
  return [
    { name: '20,000 small files in', unit: 'ms', ...into, targets },
    { name: '20,000 small files out', unit: 'ms', ...out, targets },
  ];
};

async function each(count: number, one: (number: number) => Promise<void>): Promise<void> {
  // Those of all sizes: by number they grow.
  for (let turn = 0; turn < count; turn++) await one(turn * (files / count));
}
