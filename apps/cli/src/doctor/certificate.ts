import { findTool } from '@perch/node-kit';
import type { Settings } from '@perch/protocol';
import { readCertificate, tlsFiles } from '../tls/index.ts';
import { type Finding, ok, warning } from './finding.ts';

const name = 'TLS';
/** A start has renewed one of ours by then. */
const soonMs = 30 * 24 * 3600 * 1000;
const remedy = 'Type `perch tls init` as root.';

export async function certificate({ dataDir, domain }: Settings, now = Date.now()): Promise<Finding> {
  const found = await readCertificate(tlsFiles(dataDir));
  if (!found) return ok(name, 'plain HTTP only: there is no certificate (`perch tls init` makes one)');
  const { expires, isOurs } = found;
  const day = expires.toISOString().slice(0, 10);
  if (expires.getTime() < now)
    return warning(name, `the certificate for *.${found.domain} has ended on ${day}`, remedy);
  if (expires.getTime() - now < soonMs) {
    const own = 'Put another one in its place.';
    return warning(name, `the certificate for *.${found.domain} ends on ${day}`, isOurs ? remedy : own);
  }
  if (domain !== undefined && domain !== found.domain) {
    const detail = `the certificate is for *.${found.domain}, and PERCH_DOMAIN is ${domain}`;
    return warning(name, detail, remedy);
  }
  if (isOurs && !findTool('openssl')) {
    return warning(name, 'openssl is missing, which renews the certificate', 'apt-get install openssl');
  }
  return ok(name, `certificate for *.${found.domain} until ${day}`);
}
