/** Makes keys and certificates by openssl(1), in a directory of its own for as long as it takes. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RunError, run } from '@perch/node-kit';
import { CliError } from '../errors.ts';

/** PEM. */
export interface Pair {
  key: string;
  certificate: string;
}

/** Clients that limit the life of certificates take 398 days. */
const certificateDays = 397;
const authorityDays = 3650;
const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** An authority whose certificates are good for these names and loopback alone, whoever gets its key. */
export function makeAuthority(domain: string): Promise<Pair> {
  const config = `[req]
distinguished_name = subject
prompt = no
x509_extensions = authority
[subject]
O = Perch
CN = Perch, for ${domain.slice(0, 50)}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
nameConstraints = critical, @constraints
[constraints]
permitted;DNS.0 = ${domain}
permitted;DNS.1 = localhost
permitted;IP.0 = 127.0.0.0/255.0.0.0
permitted;IP.1 = ::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
`;
  return inFolder(async (at) => {
    await writeFile(at('config'), config);
    await openssl([
      ...['req', '-x509', ...curve, '-sha256', '-days', String(authorityDays), '-set_serial', serial()],
      ...['-config', at('config'), '-keyout', at('key'), '-out', at('certificate')],
    ]);
    return read(at);
  });
}

/** A certificate for the domain, all names one level below it, and loopback. */
export function makeCertificate(domain: string, authority: Pair): Promise<Pair> {
  const config = `[req]
distinguished_name = subject
prompt = no
[subject]
O = Perch
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = @names
[names]
DNS.0 = *.${domain}
DNS.1 = ${domain}
DNS.2 = localhost
IP.0 = 127.0.0.1
IP.1 = ::1
`;
  return inFolder(async (at) => {
    await Promise.all([
      writeFile(at('config'), config),
      writeFile(at('ca.pem'), authority.certificate),
      writeFile(at('ca.key'), authority.key, { mode: 0o600 }),
    ]);
    await openssl([
      'req',
      '-new',
      ...curve,
      '-config',
      at('config'),
      '-keyout',
      at('key'),
      '-out',
      at('request'),
    ]);
    await openssl([
      ...['x509', '-req', '-sha256', '-days', String(certificateDays), '-set_serial', serial()],
      ...['-in', at('request'), '-CA', at('ca.pem'), '-CAkey', at('ca.key')],
      ...['-extfile', at('config'), '-extensions', 'server', '-out', at('certificate')],
    ]);
    return read(at);
  });
}

/** 127 random bits: a serial is positive. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return `0x${bytes.toString('hex')}`;
}

async function read(at: (name: string) => string): Promise<Pair> {
  return { key: await readFile(at('key'), 'utf8'), certificate: await readFile(at('certificate'), 'utf8') };
}

async function inFolder<T>(work: (at: (name: string) => string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'perch-tls-'));
  try {
    await chmod(folder, 0o700);
    return await work((name) => join(folder, name));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function openssl(args: string[]): Promise<void> {
  try {
    await run('openssl', args);
  } catch (error) {
    if (!(error instanceof RunError) || error.outcome !== 'not_started') throw error;
    throw new CliError('openssl, which makes certificates, is missing.', 'apt-get install openssl', {
      cause: error,
    });
  }
}
