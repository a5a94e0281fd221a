import type { X509Certificate } from 'node:crypto';

/** Of the names of a certificate the first with a wildcard, without that. */
export function domainBelow({ subjectAltName }: X509Certificate): string | undefined {
  return /DNS:\*\.([^,\s]+)/.exec(subjectAltName ?? '')?.[1];
}
