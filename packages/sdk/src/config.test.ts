import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { defaultUrl, resolveConfig } from './config.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'perch-test-'));
  for (const name of ['PERCH_URL', 'PERCH_LISTEN', 'PERCH_API_KEY', 'SUDO_USER']) vi.stubEnv(name, '');
  vi.stubEnv('PERCH_CONFIG', join(directory, 'config.json'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true });
});

const write = (text: string) => writeFile(join(directory, 'config.json'), text, { mode: 0o600 });

test('without anything the default address is used, without a key', async () => {
  expect(await resolveConfig()).toEqual({ url: defaultUrl, apiKey: undefined });
});

test('what is given wins over the environment, and that over the file', async () => {
  await write('{"url":"http://file:1/","api_key":"file"}');
  expect(await resolveConfig()).toEqual({ url: 'http://file:1', apiKey: 'file' });
  vi.stubEnv('PERCH_LISTEN', '127.0.0.1:3');
  expect(await resolveConfig()).toEqual({ url: 'http://127.0.0.1:3', apiKey: 'file' });
  vi.stubEnv('PERCH_URL', 'http://env:2');
  expect(await resolveConfig()).toEqual({ url: 'http://env:2', apiKey: 'file' });
  vi.stubEnv('PERCH_API_KEY', 'env');
  expect(await resolveConfig({ apiKey: 'given' })).toEqual({ url: 'http://env:2', apiKey: 'given' });
});

test('a file that is none of ours is refused without repeating it', async () => {
  for (const text of ['secret', '{"api_key":7}', 'null', '[']) {
    await write(text);
    await expect(resolveConfig()).rejects.toThrow(/config\.json is not a config file of Perch\.$/);
  }
});

test.skipIf(process.getuid?.() === 0)('a file that cannot be read is told', async () => {
  await write('{}');
  await chmod(join(directory, 'config.json'), 0);
  await expect(resolveConfig()).rejects.toThrow('cannot be read');
});

test('a URL that is none is refused', async () => {
  for (const url of ['localhost:7070', 'ftp://x', 'nonsense']) {
    await expect(resolveConfig({ url, apiKey: 'x' })).rejects.toThrow('URL of Perch');
  }
});
