import { chmod, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CliError } from '../errors.ts';
import { ensureLayout } from './layout.ts';
import { lookUpUser } from './user.ts';

/** A folder that only root may enter. */
async function privateFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'perch-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

test('a data directory is open to all, with an instance that stays', async () => {
  await using folder = await privateFolder();
  const perch = await lookUpUser('perch');
  const instance = await ensureLayout(folder.path, perch);
  expect(instance).toMatch(/^[a-z0-9]{6}$/);
  expect((await stat(folder.path)).mode & 0o777).toBe(0o755);
  expect(await ensureLayout(folder.path, perch)).toBe(instance);
});

test.each([0o077, 0o027])(
  'a data directory that is made with those above it is open to all under umask %o',
  async (mask) => {
    await using folder = await privateFolder();
    await chmod(folder.path, 0o755);
    const perch = await lookUpUser('perch');
    const before = process.umask(mask);
    try {
      await ensureLayout(join(folder.path, 'a/b/data'), perch);
    } finally {
      process.umask(before);
    }
    for (const [path, mode] of [
      ['a', 0o755],
      ['a/b', 0o755],
      ['a/b/data', 0o755],
      ['a/b/data/bin', 0o755],
      ['a/b/data/instance', 0o644],
      ['a/b/data/control', 0o700],
    ] as const) {
      expect({ path, mode: (await stat(join(folder.path, path))).mode & 0o777 }).toEqual({ path, mode });
    }
  },
);

test('one that cannot be one is refused, with what to do', async () => {
  await using folder = await privateFolder();
  const perch = await lookUpUser('perch');
  const refusal = (path: string) => ensureLayout(path, perch).catch((error: unknown) => error);
  for (const [path, message, remedy] of [
    ['state/perch', /^PERCH_DATA_DIR is state\/perch\.$/, /from the root/],
    [`/${'x'.repeat(90)}`, /at most 6\d bytes/, /shorter/],
    [
      join(folder.path, 'a/b'),
      /^The user perch cannot enter \/.*perch-test-\w+, where/,
      /^Let it: chmod o\+x \/.*perch-test-\w+\. /,
    ],
  ] as const) {
    const error = await refusal(path);
    expect(error).toBeInstanceOf(CliError);
    expect(error).toMatchObject({
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(remedy),
    });
  }
});

test('a user that nothing can be run as is told as that', async () => {
  await using folder = await privateFolder();
  const nobody = { name: 'ghost', uid: 54_321, gid: 54_321, home: '/' };
  const error: unknown = await ensureLayout(folder.path, nobody).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(CliError);
  expect(error).toMatchObject({
    message: expect.stringMatching(/^Nothing can be run as the user ghost: setpriv: .*54321/),
    remedy: expect.stringContaining('root'),
  });
});
