/** Content encodings of requests, by RFC 9110: names in either case, of which `identity` says nothing. */
import type { IncomingHttpHeaders } from 'node:http';
import { PerchError } from '@perch/protocol';

/** @throws PerchError unsupported_media_type for a body that is encoded. @param body as the start of a sentence */
export function refuseEncoding(headers: IncomingHttpHeaders, body: string): void {
  const encodings = encodingsOf(headers);
  if (encodings.length > 0)
    throw unsupported(`${body} is taken without a content encoding`, encodings, 'identity');
}

/** @throws PerchError unsupported_media_type for any other encoding */
export function isGzip(headers: IncomingHttpHeaders): boolean {
  const encodings = encodingsOf(headers);
  const [only] = encodings;
  if (only === undefined) return false;
  if (encodings.length === 1 && (only === 'gzip' || only === 'x-gzip')) return true;
  throw unsupported('A file is taken with the content encoding gzip or none', encodings, 'gzip');
}

function encodingsOf(headers: IncomingHttpHeaders): string[] {
  const names = (headers['content-encoding'] ?? '').toLowerCase().split(',');
  return names.map((name) => name.trim()).filter((name) => name !== '' && name !== 'identity');
}

function unsupported(takes: string, encodings: string[], accepted: string): PerchError {
  const shown = encodings.join(', ').slice(0, 100);
  return new PerchError('unsupported_media_type', `${takes}, and not with ${shown}.`, {
    content_type: shown,
    accept_encoding: accepted,
  });
}
