/** The certificate of a data directory: made, read, and renewed before it expires. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { chmod, chown, mkdir, readFile } from 'node:fs/promises';
import { domainBelow, ifThere, type User, writeDurably } from '@perch/node-kit';
import { CliError } from '../errors.ts';
import type { TlsFiles } from './files.ts';
import { makeAuthority, makeCertificate, type Pair } from './openssl.ts';

const dayMs = 24 * 3600 * 1000;
/** So long before its end another one takes its place. */
const renewBeforeMs = 90 * dayMs;
/** Of Debian's ca-certificates. */
const machineTrusts = '/etc/ssl/certs/ca-certificates.crt';

export interface Certified {
  /** Sandboxes have names below it. */
  domain: string;
  expires: Date;
  /** The authority of this data directory has signed it. */
  isOurs: boolean;
}

export type Change = 'made' | 'renewed' | 'unchanged';

/** Undefined when there is none, or it is for no names below a domain. */
export async function readCertificate(files: TlsFiles): Promise<Certified | undefined> {
  const [certificate, authority] = await Promise.all([
    readX509(files.certificate),
    readX509(files.authority),
  ]);
  const domain = certificate && domainBelow(certificate);
  if (!certificate || domain === undefined) return undefined;
  return {
    domain,
    expires: certificate.validToDate,
    isOurs:
      authority !== undefined &&
      certificate.checkIssued(authority) &&
      certificate.verify(authority.publicKey),
  };
}

/**
 * Makes what is missing, for another domain also another authority, and renews a certificate that ends soon.
 * @param owner of the key: the user of perchd
 */
export async function ensureCertificate(
  files: TlsFiles,
  domain: string,
  owner: User,
  now = Date.now(),
): Promise<Certified & { change: Change }> {
  await openFolder(files.dir);
  const known = await readCertificate(files);
  const authority = await readAuthority(files);
  const goesOn =
    known?.isOurs === true &&
    known.domain === domain &&
    authority !== undefined &&
    !(await ends(files.authority, now));
  let change: Change = goesOn ? 'unchanged' : 'made';
  if (!goesOn) await issue(files, domain, await placeAuthority(files, domain), owner);
  else if ((await ends(files.certificate, now)) || !(await readPair(files.key, files.certificate))) {
    await issue(files, domain, authority, owner);
    change = 'renewed';
  }
  await placeBundle(files);
  const made = await readCertificate(files);
  if (!made) throw new Error('openssl made a certificate without names');
  return { ...made, change };
}

/**
 * Renews a certificate of this data directory's own authority, and no other. Where the key of that is kept elsewhere none
 * is made: nobody would trust one of another authority.
 * @returns whether it did
 */
export async function renewCertificate(files: TlsFiles, owner: User, now?: number): Promise<boolean> {
  const known = await readCertificate(files);
  if (!known?.isOurs || !(await readAuthority(files))) return false;
  const { change } = await ensureCertificate(files, known.domain, owner, now);
  return change !== 'unchanged';
}

async function readX509(path: string): Promise<X509Certificate | undefined> {
  const pem = await ifThere(readFile(path));
  if (pem === undefined) return undefined;
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new CliError(`${path} is no certificate.`, 'Put one in its place in PEM, or take it away.', {
      cause,
    });
  }
}

async function ends(path: string, now: number): Promise<boolean> {
  const certificate = await readX509(path);
  return certificate === undefined || certificate.validToDate.getTime() - now < renewBeforeMs;
}

function readAuthority(files: TlsFiles): Promise<Pair | undefined> {
  return readPair(files.authorityKey, files.authority);
}

/** Undefined also when one is not of the other, as after a power cut between the two. */
async function readPair(keyPath: string, certificatePath: string): Promise<Pair | undefined> {
  const [key, certificate] = await Promise.all(
    [keyPath, certificatePath].map((path) => ifThere(readFile(path, 'utf8'))),
  );
  if (key === undefined || certificate === undefined) return undefined;
  try {
    const fits = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
    return fits ? { key, certificate } : undefined;
  } catch {
    return undefined;
  }
}

/** The key first: a certificate of the authority without its key would be believed and could renew nothing. */
async function placeAuthority(files: TlsFiles, domain: string): Promise<Pair> {
  const authority = await makeAuthority(domain);
  await writeDurably(files.authorityKey, authority.key);
  await writeDurably(files.authority, authority.certificate, { mode: 0o644 });
  return authority;
}

/** perchd takes the pair when both are there. */
async function issue(files: TlsFiles, domain: string, authority: Pair, owner: User): Promise<void> {
  const { key, certificate } = await makeCertificate(domain, authority);
  await writeDurably(files.key, key, { prepare: (file) => file.chown(owner.uid, owner.gid) });
  await writeDurably(files.certificate, certificate, { mode: 0o644 });
}

async function placeBundle(files: TlsFiles): Promise<void> {
  const trusted = (await ifThere(readFile(machineTrusts, 'utf8'))) ?? '';
  const bundle = `${trusted}${await readFile(files.authority, 'utf8')}`;
  if ((await ifThere(readFile(files.bundle, 'utf8'))) === bundle) return;
  await writeDurably(files.bundle, bundle, { mode: 0o644 });
}

async function openFolder(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  await chown(dir, 0, 0);
  await chmod(dir, 0o755);
}
