import { mkdir, mkdtempDisposable, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSettings } from '@perch/protocol';
import { Perch } from '@perch/sdk';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { takeFirstKey } from './first-key.ts';

afterEach(() => vi.unstubAllEnvs());

describe.runIf(process.getuid?.() === 0)('the first key', () => {
  test('is written below $HOME, where the command line looks for it', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-key-'));
    for (const name of ['PERCH_URL', 'PERCH_LISTEN', 'PERCH_API_KEY', 'PERCH_CONFIG', 'SUDO_USER'])
      vi.stubEnv(name, '');
    vi.stubEnv('HOME', dir.path);
    vi.stubEnv('PERCH_DATA_DIR', join(dir.path, 'data'));
    await mkdir(join(dir.path, 'data/control'), { recursive: true });
    await writeFile(join(dir.path, 'data/control/first-key'), 'perch_key\n');
    const settings = { ...readSettings(), listen: '127.0.0.1:48' };
    const file = join(dir.path, '.config/perch/config.json');
    expect(await takeFirstKey(settings)).toEqual({ key: 'perch_key', file });
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({
      url: 'http://127.0.0.1:48',
      api_key: 'perch_key',
    });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await expect(new Perch({ retries: 0 }).health()).rejects.toThrow('http://127.0.0.1:48');
    expect(await takeFirstKey(settings)).toBeUndefined();
  });
});
