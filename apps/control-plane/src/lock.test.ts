import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lockDirectory } from './lock.ts';

const holder = `
import { lockDirectory } from ${JSON.stringify(join(import.meta.dirname, 'lock.ts'))};
try {
  globalThis.lock = lockDirectory(process.argv[1]);
  console.log('held');
  setInterval(() => {}, 60_000);
} catch (error) {
  console.log(error.message);
}`;

/** A process that tries to hold a directory. @returns it, and the line that it says */
async function contender(dir: string) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', holder, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    said: said.toString('utf8').trim(),
    async kill() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

test('a directory has one holder, of however many that come at once, and its end by kill -9 frees it', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-lock-'));
  const all = await Promise.all(Array.from({ length: 3 }, () => contender(dir.path)));
  expect(all.filter(({ said }) => said === 'held')).toHaveLength(1);
  expect(all.filter(({ said }) => said.includes(`already works in ${dir.path}`))).toHaveLength(2);
  expect(() => lockDirectory(dir.path)).toThrow(/already works in .*: stop it, or set another/);
  for (const one of all) if (one.said === 'held') await one.kill();
  using _lock = lockDirectory(dir.path);
});

test('a directory that cannot be written is told as such', () => {
  expect(() => lockDirectory('/nonexistent')).toThrow(/unable to open database file/);
});
