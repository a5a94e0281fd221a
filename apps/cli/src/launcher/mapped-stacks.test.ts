import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';

const program = `interface Shape { name: string }
function fail(shape: Shape): never {
  throw new TypeError(shape.name, { cause: new Error('cause') });
}
try {
  fail({ name: 'told' });
} catch (error) {
  const { stack, cause } = error as Error;
  console.log(JSON.stringify({ stack, cause: (cause as Error).stack }));
}
`;

async function bundled(): Promise<{ dir: string; run: () => { stack: string; cause: string } }> {
  const dir = await mkdtemp(join(tmpdir(), 'perch-stacks-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  await writeFile(join(dir, 'source.ts'), program);
  await build({
    entryPoints: [join(dir, 'source.ts')],
    outfile: join(dir, 'bundle.mjs'),
    inject: [join(import.meta.dirname, 'mapped-stacks.ts')],
    ...{ bundle: true, platform: 'node', format: 'esm', sourcemap: 'linked', sourcesContent: false },
  });
  const run = () =>
    JSON.parse(execFileSync(process.execPath, [join(dir, 'bundle.mjs')], { encoding: 'utf8' }));
  return { dir, run };
}

test('a stack of a bundle shows message, function and places in the source', async () => {
  const { dir, run } = await bundled();
  const { stack, cause } = run();
  expect(stack.split('\n').slice(0, 3)).toEqual([
    'TypeError: told',
    `    at fail (${join(dir, 'source.ts')}:3:9)`,
    `    at ${join(dir, 'source.ts')}:6:3`,
  ]);
  expect(cause).toContain(`${join(dir, 'source.ts')}:3:44`);
});

test('without its map a bundle shows its own places', async () => {
  const { dir, run } = await bundled();
  await rm(join(dir, 'bundle.mjs.map'));
  expect(run().stack).toMatch(/^TypeError: told\n {4}at fail \(file:\/\/.*bundle\.mjs:\d+:\d+\)\n/);
});
