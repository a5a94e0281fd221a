/** Which port of which sandbox a request is for. */
import type { IncomingMessage } from 'node:http';

export type Target =
  | { kind: 'port'; id: string; port: number }
  /** Of a signed URL without a sandbox in it: its signature says which. */
  | { kind: 'signed' }
  | { kind: 'wrong'; problem: string };

const hostName = /^(\d{1,5})-([a-z0-9]{1,64})\./i;
const idPattern = /^[a-z0-9]{1,64}$/;
const url = /^\/files\?(?:.*&)?signature=/;

/**
 * A name `{port}-{id}.{domain}` goes before the headers: a page of a sandbox can set those, and not its name.
 * @returns undefined for a request that is for no sandbox
 */
export function targetOf(request: Pick<IncomingMessage, 'headers' | 'url'>): Target | undefined {
  const { headers } = request;
  const named = hostName.exec(headers.host ?? '');
  if (named?.[1] && named[2]) return port(named[2].toLowerCase(), named[1]);
  const id = headers['e2b-sandbox-id'];
  if (id === undefined) return url.test(request.url ?? '') ? { kind: 'signed' } : undefined;
  return port(String(id), String(headers['e2b-sandbox-port'] ?? ''));
}

function port(id: string, text: string): Target {
  if (!idPattern.test(id)) return { kind: 'wrong', problem: 'E2b-Sandbox-Id must be the id of a sandbox' };
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number >= 1 && number <= 65_535) return { kind: 'port', id, port: number };
  return { kind: 'wrong', problem: 'E2b-Sandbox-Port must be a port, 1 to 65535' };
}
