/** How requests go out: by fetch in a browser, and by the HTTP client of Node. */
import { isNode } from '../is-node.ts';
import { byFetch } from './by-fetch.ts';
import type { Transport } from './transport.ts';

export { byFetch } from './by-fetch.ts';
export type { Answer, Body, Outgoing, Transport } from './transport.ts';

let ofNode: Promise<Transport> | undefined;

/**
 * Node's fetch would cost a program of the command line more than all else it does, and ends what is silent for 300 s,
 * which nothing of its own changes.
 */
export function platformTransport(): Promise<Transport> {
  if (!isNode) return Promise.resolve(byFetch(globalThis.fetch));
  ofNode ??= import('./by-node.ts').then(({ byNode }) => byNode);
  return ofNode;
}
