import type { ExecTicket } from '@perch/protocol';
import { UnexpectedAnswerError } from '../errors.ts';
import type { Http } from '../http.ts';
import { isNode } from '../is-node.ts';
import type { Inbox } from './inbox.ts';
import { openBrowserSocket, openNodeSocket, refusalOf, type Socket } from './socket.ts';

/**
 * Opens a WebSocket of a sandbox, whose messages go to the inbox until `signal` is aborted. A browser sends no header
 * with it, so a ticket is its key.
 * @param path below the sandbox, such as `exec/stream`
 */
export async function connect(
  http: Http,
  { id, path, query = {} }: { id: string; path: string; query?: Record<string, string> },
  inbox: Inbox<unknown>,
  signal?: AbortSignal,
): Promise<Socket> {
  signal?.throwIfAborted();
  const socket = await open(http, id, path, query, inbox);
  inbox.hold = (hold) => (hold ? socket.pause() : socket.resume());
  if (signal?.aborted) {
    socket.close();
    throw signal.reason;
  }
  const cancel = () => {
    inbox.closed(signal?.reason);
    socket.close();
  };
  signal?.addEventListener('abort', cancel, { once: true });
  inbox.release = () => signal?.removeEventListener('abort', cancel);
  return socket;
}

async function open(
  http: Http,
  id: string,
  path: string,
  query: Record<string, string>,
  inbox: Inbox<unknown>,
): Promise<Socket> {
  const config = await http.config();
  const sandbox = `/v1/sandboxes/${encodeURIComponent(id)}`;
  const at = (more: Record<string, string>) => {
    const search = new URLSearchParams({ ...query, ...more }).toString();
    return `${sandbox}/${path}${search === '' ? '' : `?${search}`}`;
  };
  if (isNode) {
    return openNodeSocket(config, at({}), inbox, (status, body) => {
      return refusalOf(body) ?? new UnexpectedAnswerError(config.url + at({}), status, `status ${status}`);
    });
  }
  const { ticket } = await http.json<ExecTicket>('POST', `${sandbox}/exec/ticket`);
  return openBrowserSocket(config, at({ ticket }), inbox);
}
