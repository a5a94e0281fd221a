/** Servers of this machine in the place of a guest's agent and of a program in it. */
import { hash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, request, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

export interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  rawHeaders: string[];
  text: string;
}

/** Says what it was asked, as JSON. */
export const echo: RequestListener = (asked, answer) => {
  const chunks: Buffer[] = [];
  asked.on('data', (chunk: Buffer) => chunks.push(chunk));
  asked.on('end', () => {
    const { method, url, headers, rawHeaders } = asked;
    answer.setHeader('content-type', 'application/json');
    answer.end(JSON.stringify({ method, url, headers, rawHeaders, body: Buffer.concat(chunks).toString() }));
  });
};

/** Also a later life of a sandbox, which has another address, finds it. */
export class WebServer implements AsyncDisposable {
  readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(listener: RequestListener): Promise<WebServer> {
    const server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    return new WebServer(server);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** One request on a connection of its own, with its headers as they are given. @throws Error when it breaks off */
export function ask(
  url: string,
  path: string,
  headers: Record<string, string>,
  { method = 'GET', body }: { method?: string; body?: string } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asked = request(url + path, { method, headers, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      answer.on('error', reject);
      answer.on('end', () =>
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          rawHeaders: answer.rawHeaders,
          text,
        }),
      );
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Sends bytes that are no client's of HTTP. @returns all that comes back until the other side ends */
export function sendRaw(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(Number(port), hostname, () => socket.write(bytes, 'latin1'));
    socket.setEncoding('latin1').on('data', (chunk) => {
      answer += chunk;
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
  });
}

/** As E2B's clients sign a URL of a file. */
export function sign(path: string, operation: 'read' | 'write', token: string, rest: string[] = []): string {
  const text = [path, operation, '', token, ...rest].join(':');
  return `v1_${hash('sha256', text, 'base64').replace(/=+$/, '')}`;
}
