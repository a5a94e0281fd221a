/** An agent that answers with whatever a test wants, on a real socket. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { encodeEnvelope } from '../connect/envelope.ts';

export interface FakeAgent extends AsyncDisposable {
  port: number;
  /** The clients' bytes so far, as text. */
  received(): string;
  connections(): number;
}

/** `answer` is called once a request's head has come. */
export async function fakeAgent(answer: (socket: Socket, request: string) => void): Promise<FakeAgent> {
  const sockets = new Set<Socket>();
  let received = '';
  let connections = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    connections++;
    let request = '';
    let answered = false;
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      request += chunk.toString('latin1');
      if (answered || !request.includes('\r\n\r\n')) return;
      answered = true;
      answer(socket, request);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    received: () => received,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export function head(status: string, headers: Record<string, string>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status}\r\n${lines.join('')}\r\n`;
}

export function jsonAnswer(status: string, value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const length = String(Buffer.byteLength(text));
  return head(status, { 'content-type': 'application/json', 'content-length': length }) + text;
}

/** Head and messages of a stream; what ends it is up to the test. */
export function streamAnswer(...messages: unknown[]): Buffer {
  return Buffer.concat([
    Buffer.from(head('200 OK', { 'content-type': 'application/connect+json', connection: 'close' })),
    ...messages.map(message),
  ]);
}

export function message(value: unknown): Buffer {
  return encodeEnvelope(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));
}

export function endOfStream(value: unknown = {}): Buffer {
  const envelope = message(value);
  envelope[0] = 2;
  return envelope;
}

export const started = { event: { start: { pid: 7 } } };
export const ended = { event: { end: { exitCode: 3, exited: true, status: 'exit status 3' } } };
