/** `perch tls init`: makes or renews the certificate of this machine's Perch. */
import { readFile } from 'node:fs/promises';
import { defaultDomain, readSettings } from '@perch/protocol';
import { domainOf, ensureCertificate, readCertificate, type TlsFiles, tlsFiles } from '../tls/index.ts';
import { ensureLayout } from './layout.ts';
import { requireRoot } from './up.ts';
import { lookUpUser } from './user.ts';

export interface CertifyResult {
  domain: string;
  expires_at: string;
  change: 'made' | 'renewed' | 'unchanged';
  files: TlsFiles;
  /** PEM. */
  authority: string;
}

/**
 * @param domain default: PERCH_DOMAIN, else that of the certificate that is there
 * @throws CliError when it cannot be made here
 */
export async function certify(env: NodeJS.ProcessEnv, domain?: string): Promise<CertifyResult> {
  requireRoot();
  const { dataDir, domain: set } = readSettings(env);
  const files = tlsFiles(dataDir);
  const given = domain ?? set;
  const wanted = given === undefined ? undefined : domainOf(given);
  const perch = await lookUpUser(env.PERCH_USER || 'perch');
  await ensureLayout(dataDir, perch);
  const name = wanted ?? (await readCertificate(files))?.domain ?? defaultDomain;
  const { expires, change } = await ensureCertificate(files, name, perch);
  return {
    domain: name,
    expires_at: expires.toISOString(),
    change,
    files,
    authority: await readFile(files.authority, 'utf8'),
  };
}
