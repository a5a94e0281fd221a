import { execFileSync } from 'node:child_process';
import { chown, link, mkdtempDisposable, readdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readLogTail, takeFile } from './directory.ts';

const own = process.getuid?.() ?? 0;
const directory = () => mkdtempDisposable(join(tmpdir(), 'perch-vm-'));
const take = (dir: string, uid: number) => takeFile(join(dir, 'devices.state'), uid, 2 ** 20, 'device state');
const bytes = fc.uint8Array({ maxLength: 9000 }).map((all) => Buffer.from(all));

describe('a file that a monitor wrote', () => {
  property.prop([bytes])('is given as it is, and is then gone', async (state) => {
    await using dir = await directory();
    await writeFile(join(dir.path, 'devices.state'), state);
    expect((await take(dir.path, own)).equals(state)).toBe(true);
    expect(await readdir(dir.path)).toEqual([]);
  });

  test.each<[string, (path: string) => Promise<unknown>]>([
    ['a file without end', (path) => writeFile(path, '').then(() => truncate(path, 2 ** 40))],
    ['a pipe', async (path) => execFileSync('mkfifo', [path])],
    ['a device', (path) => symlink('/dev/zero', path)],
    ['a link', (path) => symlink('/etc/passwd', path)],
    [
      'a second name of another file',
      (path) => writeFile(`${path}-other`, 'x').then(() => link(`${path}-other`, path)),
    ],
    ['nothing', async () => {}],
  ])('is refused when it is %s', async (_, make) => {
    await using dir = await directory();
    await make(join(dir.path, 'devices.state'));
    await expect(take(dir.path, own)).rejects.toThrow();
  });

  test.runIf(own === 0)('is refused when it is of another user', async () => {
    await using dir = await directory();
    const path = join(dir.path, 'devices.state');
    await writeFile(path, 'x');
    await chown(path, 70_001, 70_001);
    await expect(take(dir.path, 70_002)).rejects.toThrow('not what the VM monitor writes');
    await writeFile(path, 'x');
    await expect(take(dir.path, 70_002)).rejects.toThrow('not what the VM monitor writes');
  });
});

describe('the log of a monitor', () => {
  property.prop([bytes])('is read at its end, whatever is in it', async (log) => {
    await using dir = await directory();
    await writeFile(join(dir.path, 'monitor.log'), log);
    expect(await readLogTail(dir.path)).toBe(log.subarray(-4096).toString());
  });

  test.each<[string, (path: string) => Promise<unknown>]>([
    ['a pipe', async (path) => execFileSync('mkfifo', [path])],
    ['a link', (path) => symlink('/etc/passwd', path)],
    ['nothing', async () => {}],
  ])('is empty when it is %s', async (_, make) => {
    await using dir = await directory();
    await make(join(dir.path, 'monitor.log'));
    expect(await readLogTail(dir.path)).toBe('');
  });
});
