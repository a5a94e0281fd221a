import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer } from 'node:tls';
import { expect, test } from 'vitest';
import { ensureCertificate, readCertificate, renewCertificate } from './certificate.ts';
import { domainOf } from './domain.ts';
import { tlsFiles } from './files.ts';
import { makeCertificate } from './openssl.ts';

const owner = { name: 'somebody', uid: 4711, gid: 4712, home: '/' };
const day = 24 * 3600 * 1000;

async function folder() {
  const path = await mkdtemp(join(tmpdir(), 'perch-test-'));
  return { files: tlsFiles(path), [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

/** Who is believed by a client that trusts the authority, and asks for the name. */
async function handshake(
  ca: string,
  pair: { cert: string; key: string },
  servername: string,
): Promise<string> {
  const server = createServer(pair, (socket) => socket.end());
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect({ ca, servername, host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  const said = await Promise.race([
    once(client, 'secureConnect').then(() => 'trusted'),
    once(client, 'error').then(([error]) => (error as NodeJS.ErrnoException).code ?? ''),
  ]).catch((error: NodeJS.ErrnoException) => error.code ?? '');
  client.destroy();
  server.close();
  return said;
}

test('a certificate is trusted for its domain, the names below it and localhost, by who trusts its authority', async () => {
  await using made = await folder();
  const { files } = made;
  expect(await ensureCertificate(files, 'sbx.test', owner)).toMatchObject({
    domain: 'sbx.test',
    change: 'made',
    isOurs: true,
  });
  const [ca, cert, key] = await Promise.all(
    [files.authority, files.certificate, files.key].map((path) => readFile(path, 'utf8')),
  );
  const pair = { cert: cert ?? '', key: key ?? '' };
  for (const name of ['sbx.test', 'api.sbx.test', '3000-sb0123456789abcdefgh.sbx.test', 'localhost']) {
    expect([name, await handshake(ca ?? '', pair, name)]).toEqual([name, 'trusted']);
  }
  expect(await handshake(ca ?? '', pair, 'sbx.example')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
});

test('the keys are for root and for the user of perchd alone, and the rest for all', async () => {
  await using made = await folder();
  const { files } = made;
  await ensureCertificate(files, 'sbx.test', owner);
  const of = async (path: string) => {
    const { mode, uid } = await stat(path);
    return [(mode & 0o777).toString(8), uid];
  };
  expect(await of(files.dir)).toEqual(['755', 0]);
  expect(await of(files.authorityKey)).toEqual(['600', 0]);
  expect(await of(files.key)).toEqual(['600', owner.uid]);
  for (const path of [files.authority, files.certificate, files.bundle])
    expect(await of(path)).toEqual(['644', 0]);
  expect(await readFile(files.bundle, 'utf8')).toContain(await readFile(files.authority, 'utf8'));
});

test('an authority is believed for no name of somebody else', async () => {
  await using made = await folder();
  const { files } = made;
  await ensureCertificate(files, 'sbx.test', owner);
  const certificate = await readFile(files.authority, 'utf8');
  const stolen = { certificate, key: await readFile(files.authorityKey, 'utf8') };
  const forged = await makeCertificate('bank.example', stolen);
  const said = await handshake(
    certificate,
    { cert: forged.certificate, key: forged.key },
    'www.bank.example',
  );
  expect(said).not.toBe('trusted');
});

test('it is left as it is, renewed before its end, and made anew for another domain', async () => {
  await using made = await folder();
  const { files } = made;
  const at = (days: number) => Date.now() + days * day;
  await ensureCertificate(files, 'sbx.test', owner);
  const authority = await readFile(files.authority, 'utf8');
  const serial = async () => new X509Certificate(await readFile(files.certificate)).serialNumber;
  const first = await serial();
  expect((await ensureCertificate(files, 'sbx.test', owner)).change).toBe('unchanged');
  expect(await renewCertificate(files, owner, at(300))).toBe(false);
  expect(await serial()).toBe(first);
  expect(await renewCertificate(files, owner, at(320))).toBe(true);
  expect(await serial()).not.toBe(first);
  expect(await readFile(files.authority, 'utf8')).toBe(authority);
  expect(await ensureCertificate(files, 'other.test', owner)).toMatchObject({
    domain: 'other.test',
    change: 'made',
  });
  expect(await readFile(files.authority, 'utf8')).not.toBe(authority);
});

test('a key that is missing, or of another certificate, is made anew with its certificate', async () => {
  await using made = await folder();
  await using another = await folder();
  const { files } = made;
  await ensureCertificate(files, 'sbx.test', owner);
  await ensureCertificate(another.files, 'sbx.test', owner);
  const authority = await readFile(files.authority, 'utf8');
  for (const harm of [() => rm(files.key), () => copyFile(another.files.key, files.key)]) {
    await harm();
    expect(await renewCertificate(files, owner)).toBe(true);
    const certificate = new X509Certificate(await readFile(files.certificate));
    expect(certificate.checkPrivateKey(createPrivateKey(await readFile(files.key)))).toBe(true);
    expect((await stat(files.key)).uid).toBe(owner.uid);
  }
  expect(await readFile(files.authority, 'utf8')).toBe(authority);
  expect(await renewCertificate(files, owner)).toBe(false);
});

test('a certificate is left as it is where the key of its authority is kept elsewhere', async () => {
  await using made = await folder();
  const { files } = made;
  await ensureCertificate(files, 'sbx.test', owner);
  const before = await Promise.all([files.authority, files.certificate].map((path) => readFile(path)));
  await rm(files.authorityKey);
  expect(await renewCertificate(files, owner, Date.now() + 390 * day)).toBe(false);
  expect(await Promise.all([files.authority, files.certificate].map((path) => readFile(path)))).toEqual(
    before,
  );
});

test("somebody else's certificate is not renewed, and none is none", async () => {
  await using made = await folder();
  await using another = await folder();
  const { files } = made;
  expect(await readCertificate(files)).toBeUndefined();
  expect(await renewCertificate(files, owner)).toBe(false);
  await ensureCertificate(files, 'sbx.test', owner);
  await ensureCertificate(another.files, 'sbx.test', owner);
  const foreign = await readFile(another.files.certificate);
  await writeFile(files.certificate, foreign);
  expect(await renewCertificate(files, owner, Date.now() + 390 * day)).toBe(false);
  expect(await readFile(files.certificate)).toEqual(foreign);
});

test('a domain is a name with a dot, and no address', () => {
  expect(domainOf('Perch.LocalHost')).toBe('perch.localhost');
  for (const wrong of [
    'localhost',
    '127.0.0.1',
    '*.x.test',
    'x..test',
    '-x.test',
    'x.test:80',
    `${'x'.repeat(64)}.test`,
    'x.test\n',
  ]) {
    expect(() => domainOf(wrong)).toThrow(/no domain/);
  }
});
