import type { Readable } from 'node:stream';
import { isPerchError, PerchError, type SandboxPort } from '@perch/protocol';
import type { Guest } from '../guests/index.ts';
import { isReachable, type Listening, parseListening } from './listening.ts';

const lists = ['/proc/net/tcp', '/proc/net/tcp6'];
/** The kernel tells those that listen first; connections follow. */
const mostBytes = 1024 * 1024;
const withinMs = 10_000;

/**
 * The ports that programs of the guest listen on, by number.
 * @param id of its sandbox
 * @param without the guest agent's own
 * @throws PerchError guest_unavailable when it takes too long to say
 */
export async function listPorts(
  guest: Guest,
  id: string,
  without: number,
  urlOf: (port: number) => string,
): Promise<SandboxPort[]> {
  const found = await allWithin(id, (signal) => Promise.all(lists.map((path) => read(guest, path, signal))));
  const byPort = Map.groupBy(found.flat(), ({ port }) => port);
  byPort.delete(without);
  return [...byPort]
    .sort(([a], [b]) => a - b)
    .map(([port, all]) => {
      const addresses = [...new Set(all.map(({ address }) => address))].sort();
      return { port, addresses, url: addresses.some(isReachable) ? urlOf(port) : null };
    });
}

async function allWithin<T>(id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const message = `The guest agent of ${id} does not tell its ports in time.`;
  const timer = setTimeout(() => late.abort(new PerchError('guest_unavailable', message, { id })), withinMs);
  try {
    return await work(late.signal);
  } finally {
    clearTimeout(timer);
  }
}

async function read(guest: Guest, path: string, signal: AbortSignal): Promise<Listening[]> {
  const stream = await open(guest, path, signal);
  if (!stream) return [];
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    chunks.push(Buffer.from(chunk));
    size += chunk.byteLength;
    if (size >= mostBytes) break;
  }
  return parseListening(Buffer.concat(chunks).subarray(0, mostBytes).toString('latin1'));
}

/** Undefined where the kernel has no such list, as one without IPv6. */
async function open(guest: Guest, path: string, signal: AbortSignal): Promise<Readable | undefined> {
  try {
    return (await guest.readFile(path, { user: 'root', signal })).stream;
  } catch (error) {
    if (isPerchError(error, 'file_not_found')) return undefined;
    throw error;
  }
}
