/** The guest agent behind the edge: which of its calls clients may make, and by what right. */
import type { IncomingMessage } from 'node:http';
import type { Life } from '../sandboxes/index.ts';
import type { Answer } from './answers.ts';
import { isSame } from './secrets.ts';
import { faultOf, parseSigned } from './signature.ts';

/** The port by which E2B's clients name the guest agent. */
export const agentPort = 49983;

const rpc = /^\/(?:process\.Process|filesystem\.Filesystem)\/[A-Za-z]+$/;
const calls: Record<string, readonly string[]> = {
  '/health': ['GET', 'HEAD'],
  '/files': ['GET', 'HEAD', 'POST'],
  '/metrics': ['GET'],
  '/envs': ['GET'],
};

/** A call as it goes on to the guest. */
export interface Permit {
  url: string;
  /** Its right is a signature, in whose place the token of the life goes. */
  signed?: boolean;
}

export function pathOf(url: string | undefined): string {
  return (url ?? '').split('?', 1)[0] ?? '';
}

/** Whether it is one of the calls for clients. The others are for the host, and for Perch itself. */
export function isForClients({ method = '', url }: IncomingMessage): boolean {
  const path = pathOf(url);
  if (rpc.test(path)) return method === 'POST';
  return Object.hasOwn(calls, path) && (calls[path]?.includes(method) ?? false);
}

/** Checked before a sandbox is woken for it. */
export function permit(request: IncomingMessage, life: Life): Permit | Answer {
  const url = request.url ?? '';
  const path = pathOf(url);
  if (path === '/health') return { url };
  const token = request.headers['x-access-token'];
  if (typeof token === 'string' && life.edgeToken !== '' && isSame(life.edgeToken, token)) return { url };
  if (path !== '/files') {
    return { code: 401, message: 'unauthorized access, please provide a valid access token' };
  }
  const signed = parseSigned(request.method, url);
  const fault = faultOf(signed, life.edgeToken);
  return fault === undefined ? { url: signed.url, signed: true } : { code: 401, message: fault };
}
