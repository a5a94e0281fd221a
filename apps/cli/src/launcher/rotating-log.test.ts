import { mkdtempDisposable, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RotatingLog } from './rotating-log.ts';

test('one that has grown is kept once, and a new one begins', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-log-'));
  const file = join(dir.path, 'a.log');
  const log = new RotatingLog(file, 3);
  for (const text of ['1111', '2222', '3333', '4']) log.write(Buffer.from(text));
  log.close();
  expect(await readFile(`${file}.1`, 'utf8')).toBe('3333');
  expect(await readFile(file, 'utf8')).toBe('4');
});

test('a full disk loses lines, and nothing else', () => {
  const log = new RotatingLog('/dev/full', 1000);
  log.write(Buffer.from('x'));
  log.close();
});
