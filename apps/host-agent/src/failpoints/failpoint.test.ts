import { existsSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { armFailpointsOf, disarmFailpoints, failpoint, failpoints, parseFailpoint } from './index.ts';

afterEach(disarmFailpoints);

test('each name is in the list once', () => {
  expect(new Set(failpoints).size).toBe(failpoints.length);
});

test('a name that there is not is refused with all that there are', () => {
  for (const text of ['', 'create', 'create.nothing', 'create.slot:0', 'create.slot:x', 'create.slot:']) {
    expect(() => parseFailpoint(text)).toThrow('pause.committed');
  }
  expect(parseFailpoint('create.slot:3')).toEqual({ name: 'create.slot', count: 3 });
});

test('a file arms its lines one after the other, each once, at any time', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-failpoint-'));
  const file = join(dir.path, 'failpoint');
  const end = vi.fn();
  armFailpointsOf(file, end);
  failpoint('create.slot');
  writeFileSync(file, 'create.slot:2\npause.killed\n');
  failpoint('pause.killed');
  failpoint('create.slot');
  expect(await readFile(file, 'utf8')).toBe('create.slot:1\npause.killed\n');
  expect(end).not.toHaveBeenCalled();
  failpoint('create.slot');
  expect(end).toHaveBeenCalledTimes(1);
  failpoint('create.slot');
  failpoint('pause.killed');
  expect(end).toHaveBeenCalledTimes(2);
  expect(existsSync(file)).toBe(false);
});
