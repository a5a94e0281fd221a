/** Bytes between a client and a port of a guest, as they come, without a store in between. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Upstream } from '../guests/index.ts';
import { endIfUnasked, tellToGoOn } from './expectation.ts';
import { addTrailers, byName, toClient } from './headers.ts';

export interface Route {
  upstream: Upstream;
  port: number;
  url: string;
  /** Towards the guest, names and values in turn. */
  headers: string[];
}

/** How it went wrong before any of the answer was passed on. */
export type Failure = 'refused' | 'broken';

/**
 * Resolves when the answer has ended, or its client has gone, or it broke off and the client's connection with it.
 * @returns the failure, of which the client has not been told
 */
export function forward(
  request: IncomingMessage,
  response: ServerResponse,
  { upstream, port, url, headers }: Route,
): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    const out = upstream.request(port, { method: request.method ?? 'GET', path: url, headers });
    const gone = () => out.destroy();
    let whole = false;
    response.once('close', () => {
      // A body of which the guest wants no more leaves its request open.
      if (!whole || !out.writableFinished) gone();
      resolve(undefined);
    });
    out.once('continue', () => tellToGoOn(request, response));
    out.once('response', (answer) => {
      answer.once('end', () => {
        whole = true;
        addTrailers(answer, response);
      });
      answer.once('error', () => response.destroy());
      try {
        endIfUnasked(request, response);
        response.sendDate = false;
        writeHead(response, answer);
        // The head of a stream goes before its first byte, which may take its time.
        response.flushHeaders();
      } catch {
        // No server may say what this one said.
        gone();
        resolve('broken');
        return;
      }
      answer.pipe(response);
    });
    out.once('close', () => {
      // By HTTP/2 a stream ends with its body, also one that nobody wants.
      request.unpipe(out);
      request.resume();
    });
    out.on('error', (error: NodeJS.ErrnoException) => {
      // A server may answer and end before it has read all; then its answer is what counts.
      if (response.headersSent) return;
      resolve(error.code === 'ECONNREFUSED' ? 'refused' : 'broken');
    });
    // A body may take its time: its request does not wait for it.
    out.flushHeaders();
    request.once('end', () => addTrailers(request, out));
    request.pipe(out);
  });
}

function writeHead(response: ServerResponse, answer: IncomingMessage): void {
  const headers = toClient(answer);
  const status = answer.statusCode ?? 502;
  // HTTP/2 has no text beside the status, and takes headers by their name.
  if (response.req.httpVersionMajor === 2) response.writeHead(status, byName(headers));
  else response.writeHead(status, answer.statusMessage, headers);
}

/** Resolves at the end of both ways, of which either may end first. @returns the failure when nothing was connected */
export function forwardUpgrade(
  request: IncomingMessage,
  client: Duplex,
  head: Buffer,
  { upstream, port, url, headers }: Route,
): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    const guest = upstream.connect(port);
    let connected = false;
    guest.once('connect', () => {
      connected = true;
      let lines = `${request.method} ${url} HTTP/1.1\r\n`;
      for (let at = 0; at < headers.length; at += 2) lines += `${headers[at]}: ${headers[at + 1]}\r\n`;
      guest.write(`${lines}\r\n`, 'latin1');
      if (head.length > 0) guest.write(head);
      client.pipe(guest);
      guest.pipe(client);
    });
    guest.once('error', (error: NodeJS.ErrnoException) => {
      if (!connected) resolve(error.code === 'ECONNREFUSED' ? 'refused' : 'broken');
    });
    guest.once('close', () => {
      if (connected && !client.writableEnded) client.destroy();
      resolve(connected ? undefined : 'broken');
    });
    client.on('error', () => guest.destroy());
    client.once('close', () => guest.destroy());
  });
}
