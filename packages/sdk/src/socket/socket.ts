/** One face for the two kinds of WebSocket: of `ws` in Node, where a header carries the key, and of a browser. */
import { PerchError } from '@perch/protocol';
import type { Config } from '../config.ts';
import { connectionError } from '../errors.ts';

export interface Socket {
  /** Resolves when it is handed to the network. */
  send(message: string | Uint8Array<ArrayBuffer>): Promise<void>;
  close(): void;
  /** Stops and starts what arrives; a browser cannot. */
  pause(): void;
  resume(): void;
}

export interface SocketListener {
  message(message: string | Uint8Array): void;
  /** Once, whatever ended it. */
  closed(error: unknown): void;
}

/** The error in the body of a refusal, if there is one. */
export function refusalOf(body: string): PerchError | undefined {
  try {
    return PerchError.fromBody(JSON.parse(body));
  } catch {
    return undefined;
  }
}

/** The server pings each 20 s, and takes a client for gone that does not answer by the next. */
const silenceMs = 75_000;
const signOfLifeMs = 10_000;
const maxMessageBytes = 16 * 1024 * 1024;

/** @param refusal what an answer stood for that is no WebSocket */
export async function openNodeSocket(
  config: Config,
  path: string,
  listener: SocketListener,
  refusal: (status: number, body: string) => Error,
): Promise<Socket> {
  const { WebSocket } = await import('ws');
  const url = wsUrl(config, path);
  const socket = new WebSocket(url, {
    headers: config.apiKey ? { 'x-api-key': config.apiKey } : {},
    perMessageDeflate: false,
    ...(isLoopback(url) ? { generateMask: noMask } : {}),
    handshakeTimeout: 30_000,
    maxPayload: maxMessageBytes,
  });
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  let failure: unknown;
  let paused = false;
  // A client that reads nothing sees no ping: it says unasked that it lives (RFC 6455, section 5.5.3).
  let signs: NodeJS.Timeout | undefined;
  const watchdog = setTimeout(() => {
    if (paused) watchdog.refresh();
    else socket.terminate();
  }, silenceMs);
  socket.once('open', resolve);
  socket.once('unexpected-response', (_request, response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      if (body.length < 65_536) body += chunk;
    });
    response.once('close', () => {
      reject(refusal(response.statusCode ?? 0, body));
      socket.terminate();
    });
  });
  socket.on('error', (error) => {
    failure = error;
    reject(connectionError(config.url, error));
  });
  socket.on('ping', () => watchdog.refresh());
  socket.on('message', (data: Buffer, isBinary) => {
    watchdog.refresh();
    listener.message(isBinary ? data : data.toString('utf8'));
  });
  socket.once('close', () => {
    clearTimeout(watchdog);
    clearInterval(signs);
    listener.closed(connectionError(config.url, failure ?? new Error('closed')));
  });
  await opened;
  return {
    async send(message) {
      const { promise: sent, resolve: done, reject: failed } = Promise.withResolvers<void>();
      socket.send(message, (error) => (error ? failed(connectionError(config.url, error)) : done()));
      await sent;
    },
    close() {
      socket.close();
      // One that is held would not see the server's half of the closing handshake.
      socket.resume();
    },
    pause() {
      if (socket.readyState !== socket.OPEN) return;
      paused = true;
      socket.pong();
      signs ??= setInterval(() => socket.pong(), signOfLifeMs);
      socket.pause();
    },
    resume() {
      paused = false;
      clearInterval(signs);
      signs = undefined;
      watchdog.refresh();
      socket.resume();
    },
  };
}

export async function openBrowserSocket(
  config: Config,
  path: string,
  listener: SocketListener,
): Promise<Socket> {
  const socket = new globalThis.WebSocket(wsUrl(config, path));
  socket.binaryType = 'arraybuffer';
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  const broken = () => connectionError(config.url, new Error('closed'));
  socket.onopen = () => resolve();
  socket.onmessage = (event) => {
    const data: unknown = event.data;
    listener.message(data instanceof ArrayBuffer ? new Uint8Array(data) : String(data));
  };
  socket.onclose = () => {
    reject(broken());
    listener.closed(broken());
  };
  await opened;
  return {
    async send(message) {
      socket.send(message);
    },
    close: () => socket.close(),
    pause() {},
    resume() {},
  };
}

function wsUrl(config: Config, path: string): string {
  return `${config.url.replace(/^http/, 'ws')}${path}`;
}

function isLoopback(url: string): boolean {
  return /^(127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname);
}

/**
 * A mask of zeros changes nothing and costs nothing. Masks keep intermediaries from taking bytes of a client for HTTP
 * (RFC 6455, section 10.3), and loopback has none.
 */
function noMask(mask: Uint8Array): void {
  mask.fill(0);
}
