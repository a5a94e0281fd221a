import type { ExecServerMessage } from '@perch/protocol';
import { WebSocket } from 'ws';

/** A client of `exec/stream`, of its text messages. */
export class StreamClient implements AsyncDisposable {
  readonly socket: WebSocket;
  readonly closed: Promise<{ code: number }>;
  readonly #messages: ExecServerMessage[] = [];
  #wake = Promise.withResolvers<void>();
  #over = false;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) return;
      this.#messages.push(JSON.parse(data.toString('utf8')) as ExecServerMessage);
      this.#wake.resolve();
    });
    this.closed = new Promise((resolve) => {
      socket.on('close', (code) => {
        this.#over = true;
        this.#wake.resolve();
        resolve({ code });
      });
    });
  }

  static async open(url: string, headers: Record<string, string>): Promise<StreamClient> {
    const socket = new WebSocket(url.replace(/^http/, 'ws'), { headers });
    const client = new StreamClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => resolve());
      socket.on('error', reject);
    });
    return client;
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message));
  }

  async next(): Promise<ExecServerMessage> {
    for (;;) {
      const message = this.#messages.shift();
      if (message) return message;
      if (this.#over) throw new Error('the connection is closed');
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }

  async until(wanted: (message: ExecServerMessage) => boolean): Promise<ExecServerMessage> {
    for (;;) {
      const message = await this.next();
      if (wanted(message)) return message;
    }
  }

  /** Everything up to the last message. */
  async rest(): Promise<ExecServerMessage[]> {
    const messages: ExecServerMessage[] = [];
    for (;;) {
      const message = await this.next();
      messages.push(message);
      if (message.type === 'exit' || message.type === 'error') return messages;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.terminate();
    await this.closed;
  }
}
