import { execFile } from 'node:child_process';
import {
  chmod,
  chown,
  cp,
  mkdtempDisposable,
  readdir,
  readFile,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { bundle } from './compile.ts';

const nobody = 65_534;
const checkout = join(import.meta.dirname, '../../../..');

/** A checkout that is not compiled, with the packages of this one. */
async function fresh() {
  const folder = await mkdtempDisposable(join(tmpdir(), 'perch-checkout-'));
  await chmod(folder.path, 0o755);
  const at = (name: string) => join(folder.path, name);
  for (const name of ['apps/cli', 'packages', 'images', 'package.json', 'package-lock.json']) {
    await cp(join(checkout, name), at(name), { recursive: true });
  }
  await symlink(join(checkout, 'node_modules'), at('node_modules'));
  return {
    at,
    compiled: async () => (await readdir(at('dist'))).filter((name) => name.startsWith('cli-')),
    /** Output of `perch`, as this user or another. */
    async perch(arg: string, uid = 0): Promise<string> {
      const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
      const run = ['setpriv', ...user, '--', process.execPath, at('apps/cli/bin/perch.mjs'), arg] as const;
      const [file, ...args] = run;
      // Nobody keeps the code that V8 made of it.
      const env = { PATH: process.env.PATH, HOME: '/nonexistent' };
      return (await promisify(execFile)(file, args, { env })).stdout;
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('a start runs what the sources say, each state of which is compiled once', async () => {
  await using made = await fresh();
  const source = made.at('apps/cli/src/program.ts');
  const before = await readFile(source, 'utf8');
  expect(await made.perch('--help')).toContain('microVM sandboxes');
  const [first = ''] = await made.compiled();
  const { ino } = await stat(made.at(`dist/${first}`));
  await writeFile(source, before.replace('microVM sandboxes', 'other sandboxes'));
  expect(await made.perch('--help')).toContain('other sandboxes');
  await writeFile(source, before);
  expect(await made.perch('--help')).toContain('microVM sandboxes');
  expect(await made.compiled()).toHaveLength(2);
  expect((await stat(made.at(`dist/${first}`))).ino).toBe(ino);
});

test('who may not write to the checkout runs its sources', async () => {
  await using made = await fresh();
  expect(await made.perch('--version', nobody)).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(await readdir(made.at('.'))).not.toContain('dist');
});

test('the owner of a checkout owns what root compiled in it, and all can read it', async () => {
  await using made = await fresh();
  await chown(made.at('.'), nobody, nobody);
  const before = process.umask(0o077);
  await made.perch('--version').finally(() => process.umask(before));
  const [folder = ''] = await made.compiled();
  for (const path of ['dist', `dist/${folder}`]) {
    const { uid, mode } = await stat(made.at(path));
    expect({ uid, mode: mode & 0o777 }).toEqual({ uid: nobody, mode: 0o755 });
  }
  expect((await stat(made.at(`dist/${folder}/run.mjs`))).mode & 0o777).toBe(0o644);
});

test('several kinds are compiled at the same time', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'perch-compiled-'));
  const kinds = ['cli', 'daemons'] as const;
  await Promise.all(kinds.map((kind) => bundle(kind, { root: checkout, folder: join(folder.path, kind) })));
  expect(await readdir(join(folder.path, 'cli'))).toContain('run.mjs');
  expect(await readdir(join(folder.path, 'daemons'))).toContain('perchd.mjs');
});

test('a command that asks Perch loads no schemas, no TLS, and no other client of HTTP', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'perch-compiled-'));
  await bundle('cli', { root: checkout, folder: folder.path });
  const files = await readdir(folder.path);
  for (const command of ['ls', 'exec', 'create', 'pause', 'snapshot']) {
    const entry = files.find((file) => file.startsWith(`${command}-`));
    const code = await loadedBy(folder.path, ['run.mjs', entry ?? `no ${command}`]);
    expect(code).toContain('packages/sdk/src/http.ts');
    expect(code).not.toMatch(
      /node_modules\/(typebox|undici)\/|^module\.exports = process\.getBuiltinModule\("node:(tls|https)"/m,
    );
  }
});

/** All code of compiled files, and of those that they import at once. */
async function loadedBy(folder: string, names: string[]): Promise<string> {
  const seen = new Map<string, string>();
  for (const name of names) {
    if (seen.has(name)) continue;
    const code = await readFile(join(folder, name), 'utf8');
    seen.set(name, code);
    names.push(
      ...Array.from(code.matchAll(/^(?:\} from|import) "\.\/([^"]+)"/gm), ([, other = '']) => other),
    );
  }
  return [...seen.values()].join('\n');
}
