import { expect, test } from 'vitest';
import { ConfigError, readConfig } from './index.ts';

test('every setting has a default that works', () => {
  const config = readConfig({});
  expect(config.listen).toEqual({ host: '127.0.0.1', port: 7070 });
  expect(config.controlDir).toBe('/var/lib/perch/control');
  expect(config.hosts).toEqual([{ id: 'local', socket: '/var/lib/perch/run/host.sock' }]);
  expect(config.rateLimit).toEqual({ burst: 6000, seconds: 10 });
});

test('an IPv6 address to listen on is written in brackets', () => {
  expect(readConfig({ PERCH_LISTEN: '[::1]:80' }).listen).toEqual({ host: '::1', port: 80 });
});

test.each([
  { PERCH_LISTEN: '7070' },
  { PERCH_LISTEN: 'localhost:99999' },
  { PERCH_LISTEN: '::1:80' },
  { PERCH_PUBLIC_URL: 'sbx.test' },
  { PERCH_PUBLIC_URL: 'https://10.0.0.1' },
  { PERCH_PUBLIC_URL: 'https://sbx.test/path' },
  { PERCH_DATA_DIR: 'relative' },
  { PERCH_LOG_LEVEL: 'loud' },
  { PERCH_RATE_LIMIT: '0/1' },
  { PERCH_RATE_LIMIT: 'many' },
  { PERCH_API_KEY: 'secret' },
  { DATABASE_URL: 'mysql://localhost/perch' },
  { DATABASE_URL: 'host=localhost' },
])('a setting that cannot be meant is refused by its name: %j', (env) => {
  const name = Object.keys(env)[0] ?? '';
  expect(() => readConfig(env as NodeJS.ProcessEnv)).toThrow(ConfigError);
  expect(() => readConfig(env as NodeJS.ProcessEnv)).toThrow(name);
});

test.each(['PERCH_API_KEY', 'DATABASE_URL'])('a malformed %s is not repeated in the message', (name) => {
  expect(() => readConfig({ [name]: 'x:hunter2' })).toThrow(name);
  expect(() => readConfig({ [name]: 'x:hunter2' })).not.toThrow('hunter2');
});
