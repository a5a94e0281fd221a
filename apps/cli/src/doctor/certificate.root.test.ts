import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSettings } from '@perch/protocol';
import { expect, test } from 'vitest';
import { ensureCertificate, tlsFiles } from '../tls/index.ts';
import { certificate } from './certificate.ts';

const owner = { name: 'root', uid: 0, gid: 0, home: '/' };
const day = 24 * 3600 * 1000;

test('a certificate is well until it ends soon, or is for another domain than sandboxes have', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  await using _ = { [Symbol.asyncDispose]: () => rm(dataDir, { recursive: true }) };
  const of = (domain?: string) => readSettings({ PERCH_DATA_DIR: dataDir, PERCH_DOMAIN: domain });
  expect(await certificate(of())).toMatchObject({
    status: 'ok',
    detail: expect.stringContaining('plain HTTP'),
  });
  await ensureCertificate(tlsFiles(dataDir), 'sbx.test', owner);
  for (const domain of [undefined, 'sbx.test']) {
    expect(await certificate(of(domain))).toMatchObject({
      status: 'ok',
      detail: expect.stringContaining('*.sbx.test'),
    });
  }
  expect(await certificate(of('other.test'))).toMatchObject({ status: 'warning' });
  for (const [days, word] of [
    [370, 'ends on'],
    [398, 'has ended'],
  ] as const) {
    const found = await certificate(of(), Date.now() + days * day);
    expect(found).toMatchObject({ status: 'warning', remedy: expect.stringContaining('perch tls init') });
    expect(found.detail).toContain(word);
  }
});
