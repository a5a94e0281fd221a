/**
 * The fetch of this platform, without limits of its own. That of Node gives up after 300 s without a byte, which
 * only a dispatcher of undici can change; undici's own fetch goes with its own dispatcher.
 */
import { isNode } from './exec/socket.ts';

type Fetch = typeof globalThis.fetch;

let ofNode: Promise<Fetch> | undefined;

export function platformFetch(): Promise<Fetch> {
  if (!isNode) return Promise.resolve(globalThis.fetch);
  ofNode ??= withoutLimits();
  return ofNode;
}

async function withoutLimits(): Promise<Fetch> {
  const { Agent, fetch } = await import('./undici.ts');
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  // Of another declaration than the platform's, and the same in what is used of it.
  return ((target: string, init: object) => fetch(target, { ...init, dispatcher })) as unknown as Fetch;
}
