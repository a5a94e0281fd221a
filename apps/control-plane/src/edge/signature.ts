/**
 * Signed URLs of `/files`: they read or write one path without the token of the sandbox. `v1_` and
 * base64(sha256(`path:read|write:user:token[:expiration]`)) without padding, over path and user as the query has them.
 */
import { hash } from 'node:crypto';
import { isSame } from './secrets.ts';

export interface SignedUrl {
  /** The path and query without the signature, each value once: what was signed and nothing else. */
  url: string;
  signature: string | null;
  /** Unix seconds, as the query has them. */
  expiration: string | null;
  path: string;
  user: string;
  operation: 'read' | 'write';
}

export function parseSigned(method: string | undefined, url: string): SignedUrl {
  const query = new URLSearchParams(url.slice(url.indexOf('?') + 1));
  const path = query.get('path');
  const user = query.get('username');
  const rest = new URLSearchParams();
  if (path !== null) rest.set('path', path);
  if (user !== null) rest.set('username', user);
  return {
    url: `/files?${rest}`,
    signature: query.get('signature'),
    expiration: query.get('signature_expiration'),
    path: path ?? '',
    user: user ?? '',
    operation: method === 'POST' ? 'write' : 'read',
  };
}

/** Whether the token of a sandbox made it. */
export function isSignedBy(
  { signature, expiration, path, user, operation }: SignedUrl,
  token: string,
): boolean {
  if (signature === null || token === '') return false;
  const text = [path, operation, user, token, ...(expiration === null ? [] : [expiration])].join(':');
  return isSame(`v1_${hash('sha256', text, 'base64').replace(/=+$/, '')}`, signature);
}

/** Why it is not good, in the words of E2B; undefined when it is. */
export function faultOf(signed: SignedUrl, token: string, now = Date.now()): string | undefined {
  if (signed.signature === null) return 'missing signature query parameter';
  if (!isSignedBy(signed, token)) return 'invalid signature';
  if (signed.expiration === null) return undefined;
  if (!/^\d{1,15}$/.test(signed.expiration)) return 'invalid signature expiration';
  return Number(signed.expiration) < Math.floor(now / 1000) ? 'signature is already expired' : undefined;
}
