/** The edge's own answers, in the words that E2B's clients look for. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { endIfUnasked } from './expectation.ts';

export interface Answer {
  code: number;
  message: string;
  sandboxId?: string;
  port?: number;
}

export const notFound = (sandboxId: string): Answer => ({
  sandboxId,
  message: 'The sandbox was not found',
  code: 502,
});

export const closedPort = (sandboxId: string, port: number): Answer => ({
  sandboxId,
  message: 'The sandbox is running but port is not open',
  port,
  code: 502,
});

export const broken = (sandboxId: string, port: number): Answer => ({
  sandboxId,
  message: 'The sandbox is running but its answer broke off',
  port,
  code: 502,
});

export const inTransition = (sandboxId: string, status: string): Answer => ({
  sandboxId,
  message: `The sandbox is ${status}`,
  code: 409,
});

export const tooMany = (sandboxId: string): Answer => ({
  sandboxId,
  message: 'The sandbox has too many open connections',
  code: 429,
});

export const privateTraffic = (sandboxId: string, given: boolean): Answer => ({
  sandboxId,
  message: `The sandbox is secured with a traffic access token: the header e2b-traffic-access-token is ${
    given ? 'not valid' : 'missing'
  }`,
  code: 403,
});

export function sendAnswer(request: IncomingMessage, response: ServerResponse, answer: Answer): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const { type, body } = render(request, answer);
  endIfUnasked(request, response);
  response.writeHead(answer.code, {
    'access-control-allow-origin': '*',
    'content-type': type,
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
  request.resume();
}

/** To a request to upgrade, whose connection ends with the answer. */
export function sendRawAnswer(request: IncomingMessage, socket: Duplex, answer: Answer): void {
  const { type, body } = render(request, answer);
  socket.end(
    `HTTP/1.1 ${answer.code} ${STATUS_CODES[answer.code]}\r\nContent-Type: ${type}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

/**
 * Who looks at an answer with their eyes gets a page. Scripts of a page cannot set their User-Agent, but a browser says
 * of their requests that they are no navigation.
 */
function isForEyes({ headers }: IncomingMessage): boolean {
  const { accept, 'sec-fetch-mode': mode, 'user-agent': agent } = headers;
  if (accept?.includes('text/html')) return true;
  if (mode !== undefined) return mode === 'navigate';
  if (accept?.includes('json') || headers['x-requested-with'] !== undefined) return false;
  return agent?.startsWith('Mozilla/') ?? false;
}

function render(request: IncomingMessage, answer: Answer): { type: string; body: string } {
  if (answer.code !== 502 || !isForEyes(request)) {
    return { type: 'application/json', body: JSON.stringify(answer) };
  }
  const where = answer.port === undefined ? '' : ` Port: ${answer.port}.`;
  const title = answer.message === closedPort('', 0).message ? 'Closed Port Error' : answer.message;
  const body = `<!doctype html><meta charset="utf-8"><title>${title}</title><h1>${answer.message}</h1><p>Sandbox: ${answer.sandboxId}.${where}</p>`;
  return { type: 'text/html; charset=utf-8', body };
}
