import type { Settings } from '@perch/protocol';
import { afterEach, expect, test, vi } from 'vitest';
import { daemons } from './daemons.ts';
import { health, refused, served } from './testing/served.ts';

afterEach(() => void vi.unstubAllEnvs());

async function found(url: string, apiKey: string | undefined) {
  const settings = { listen: new URL(url).host, dataDir: '/nonexistent/perch' } as Settings;
  const { findings } = await daemons(settings, { url, apiKey });
  return Object.fromEntries(findings.map((finding) => [finding.name, finding]));
}

test.each([undefined, 'perch_wrong'])(
  'the key %s, missing or refused here, is told with what helps',
  async (key) => {
    using here = await served({ '/health': health, '/v1/hosts': refused });
    expect((await found(here.url, key))['API key']).toMatchObject({
      status: 'problem',
      detail: key ? 'The API key is not valid.' : 'none is set',
      remedy: expect.stringContaining('start Perch with PERCH_API_KEY'),
    });
  },
);

test('a key that is valid is well', async () => {
  using here = await served({ '/health': health, '/v1/hosts': [200, { items: [] }] });
  expect((await found(here.url, 'perch_key'))['API key']).toMatchObject({ status: 'ok' });
});

test.each([
  ['', 'warning'],
  ['http://127.0.0.1:48', 'problem'],
])('a Perch here that does not answer, with PERCH_URL=%s, is a %s', async (url, status) => {
  vi.stubEnv('PERCH_URL', url);
  const findings = await found('http://127.0.0.1:48', undefined);
  expect(findings.perchd).toMatchObject({ status, remedy: expect.stringContaining('`perch up`') });
  expect(findings['API key']).toBeUndefined();
});
