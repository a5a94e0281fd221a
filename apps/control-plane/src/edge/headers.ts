/** Headers from one connection to the next. */
import type { IncomingMessage, OutgoingMessage } from 'node:http';
import { awaitsContinue } from '../http/index.ts';

/** Of one connection alone (RFC 9110, 7.6.1), or said anew by the sender. */
const hops: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
]);
/** Not after a body (RFC 9110, 6.5.1): they say where it ends, whom it is for, or by what right. */
const neverTrailers: ReadonlySet<string> = new Set([
  ...hops,
  ...['content-length', 'content-encoding', 'content-type', 'host', 'authorization', 'set-cookie', 'cookie'],
  ...['e2b-traffic-access-token', 'x-access-token'],
]);

const trafficToken = 'e2b-traffic-access-token';
const accessToken = 'x-access-token';

export interface Swap {
  /** The client shows this, of the sandbox. */
  from: string;
  /** The guest agent asks for this, of the life. */
  to: string;
}

export interface RequestHeaders {
  /** `Host` that the program sees; null: as it came. */
  host: string | null;
  /** The token that a signature stood for; undefined: what the client showed is passed on, swapped where it fits. */
  token?: string | undefined;
  swap: Swap;
  upgrade?: boolean;
}

/** Headers of a request towards the guest, names and values in turn. */
export function toGuest(request: IncomingMessage, how: RequestHeaders): string[] {
  const named = connectionNames(request);
  const headers: string[] = [];
  for (const [name, value] of pairs(request.rawHeaders)) {
    const lower = name.toLowerCase();
    const passes = how.upgrade && (lower === 'connection' || lower === 'upgrade');
    if (!passes && (hops.has(lower) || named.has(lower))) continue;
    if (lower === trafficToken || lower === 'host') continue;
    if (lower === accessToken) {
      if (how.token === undefined) headers.push(name, value === how.swap.from ? how.swap.to : value);
      continue;
    }
    headers.push(name, value);
  }
  // Programs look for it with a capital, as Go writes it.
  const host = how.host ?? request.headers.host;
  if (host !== undefined) headers.unshift('Host', host);
  if (how.token !== undefined) headers.push('X-Access-Token', how.token);
  if (how.upgrade) return headers;
  if (awaitsContinue(request)) headers.push('Expect', '100-continue');
  headers.push(...bodyOf(request));
  return headers;
}

/** Headers of an answer towards the client. */
export function toClient(answer: IncomingMessage): string[] {
  const named = connectionNames(answer);
  return pairs(answer.rawHeaders).flatMap(([name, value]) => {
    const lower = name.toLowerCase();
    return hops.has(lower) || named.has(lower) ? [] : [name, value];
  });
}

/** To be called when all of `from` has been read, before the end of `to`. Whoever knows none drops them. */
export function addTrailers(from: IncomingMessage, to: OutgoingMessage): void {
  const passed = pairs(from.rawTrailers).flatMap(([name, value]) =>
    neverTrailers.has(name.toLowerCase()) ? [] : [name, value],
  );
  if (passed.length === 0) return;
  try {
    to.addTrailers(byName(passed) as never);
  } catch {
    // A parser that is more lenient than the writer: the body is whole without them.
  }
}

/** @param name in lower case */
export function isOfOneConnection(name: string): boolean {
  return hops.has(name);
}

/** Names and values in turn, by name in lower case. */
export function byName(headers: readonly string[]): Record<string, string[]> {
  const all: Record<string, string[]> = Object.create(null);
  for (const [name, value] of pairs(headers)) {
    const lower = name.toLowerCase();
    all[lower] = [...(all[lower] ?? []), value];
  }
  return all;
}

/** A body without a length comes in chunks, and a request without a body says so. */
function bodyOf({ headers, method }: IncomingMessage): string[] {
  if (headers['transfer-encoding'] !== undefined) return ['Transfer-Encoding', 'chunked'];
  const none =
    headers['content-length'] === undefined && (method === 'POST' || method === 'PUT' || method === 'PATCH');
  return none ? ['Content-Length', '0'] : [];
}

/** What `Connection` names is of that connection, but never what tells where a body ends. */
function connectionNames({ headers }: IncomingMessage): Set<string> {
  const names = (headers.connection ?? '').toLowerCase().split(',');
  return new Set(
    names.map((name) => name.trim()).filter((name) => name !== 'content-length' && name !== 'host'),
  );
}

function pairs(raw: readonly string[]): [string, string][] {
  const found: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) found.push([raw[at] as string, raw[at + 1] as string]);
  return found;
}
