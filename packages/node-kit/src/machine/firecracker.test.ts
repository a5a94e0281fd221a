import { chmod, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findFirecracker } from './firecracker.ts';

/** Programs that answer with these lines. */
async function programs(firecracker: string, jailer: string) {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-test-'));
  const env = {
    PERCH_FIRECRACKER: join(dir.path, 'firecracker'),
    PERCH_JAILER: join(dir.path, 'jailer'),
  };
  for (const [path, said] of [
    [env.PERCH_FIRECRACKER, firecracker],
    [env.PERCH_JAILER, jailer],
  ] as const) {
    await writeFile(path, `#!/bin/sh\n${said}\n`);
    await chmod(path, 0o755);
  }
  return { env, [Symbol.asyncDispose]: () => dir.remove() };
}

test('Firecracker and the jailer of one release are found, with the versions of program and states', async () => {
  const firecracker = `case $1 in --version) printf 'Firecracker v1.12.1\\n\\n';; *) echo v6.0.0; echo more; esac`;
  await using found = await programs(firecracker, 'echo Jailer v1.12.1');
  expect(await findFirecracker(found.env)).toEqual({
    version: '1.12.1',
    stateFormat: '6.0.0',
    programs: { firecracker: found.env.PERCH_FIRECRACKER, jailer: found.env.PERCH_JAILER },
    problem: undefined,
  });
});

test.each([
  [
    'echo Firecracker v1.11.0',
    'echo Jailer v1.11.0',
    /^firecracker is 1\.11\.0; Perch needs 1\.12\.0 or later$/,
  ],
  ['echo Firecracker v1.12.1', 'echo Jailer v1.13.0', /^firecracker is 1\.12\.1 and its jailer 1\.13\.0$/],
  ['echo hello', 'echo Jailer v1.12.1', /firecracker does not tell its version$/],
  ['echo Firecracker v1.12.1', 'exit 1', /jailer does not run$/],
])('%s with %s is a problem that names the release that fits', async (firecracker, jailer, what) => {
  await using found = await programs(firecracker, jailer);
  expect((await findFirecracker(found.env)).problem).toEqual({
    what: expect.stringMatching(what),
    remedy: expect.stringContaining('one release from 1.12 on'),
  });
});

test('one that is nowhere is a problem', async () => {
  const { problem } = await findFirecracker({ PERCH_FIRECRACKER: '/nonexistent/firecracker' });
  expect(problem?.what).toBe('/nonexistent/firecracker does not run');
});
