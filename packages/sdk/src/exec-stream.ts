import { type ExecClientMessage, type ExecServerMessage, PerchError, type SignalName } from '@perch/protocol';
import { WebSocket } from 'ws';

export type StreamStart = Omit<Extract<ExecClientMessage, { type: 'start' }>, 'type'>;

export type StreamOutput = { stream: 'stdout' | 'stderr'; data: Uint8Array };

/** Output that waits for its reader; beyond it the connection is held back. */
const highWaterBytes = 1024 * 1024;

/** A command as it runs. Iterate over it for the output; `exit` settles when it ended. */
export class ExecStream implements AsyncIterable<StreamOutput> {
  readonly #socket: WebSocket;
  readonly #queue: StreamOutput[] = [];
  readonly #started = Promise.withResolvers<number>();
  readonly #exit = Promise.withResolvers<number>();
  #queuedBytes = 0;
  #over = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    this.#started.promise.catch(() => {});
    this.#exit.promise.catch(() => {});
    socket.on('message', (data) => this.#receive(JSON.parse(String(data)) as ExecServerMessage));
    socket.on('close', () => this.#end(new Error('The connection to the command was lost.')));
    socket.on('error', (error) => this.#end(error));
  }

  /** @throws PerchError what Perch answered; Error when it cannot be reached */
  static async open(url: string, apiKey: string | undefined, start: StreamStart): Promise<ExecStream> {
    const socket = new WebSocket(url.replace(/^http/, 'ws'), {
      headers: apiKey ? { 'x-api-key': apiKey } : {},
      perMessageDeflate: false,
      maxPayload: 16 * 1024 * 1024,
    });
    const opened = Promise.withResolvers<void>();
    socket.once('open', opened.resolve);
    socket.once('error', opened.reject);
    socket.once('unexpected-response', (_request, answer) => {
      let text = '';
      answer.on('data', (chunk: Buffer) => {
        text += chunk;
      });
      answer.on('end', () => opened.reject(errorOf(text, answer.statusCode)));
    });
    await opened.promise;
    const stream = new ExecStream(socket);
    stream.#send({ type: 'start', ...start });
    return stream;
  }

  /** Process id in the sandbox, once it runs. */
  get pid(): Promise<number> {
    return this.#started.promise;
  }

  /** Exit code; 127 for a command that does not exist, 128 + n for one that signal n ended. */
  get exit(): Promise<number> {
    return this.#exit.promise;
  }

  /** Resolves when it was handed on; await it to send no faster than the command reads. */
  write(data: Uint8Array): Promise<void> {
    return this.#send({ type: 'stdin', data_base64: Buffer.from(data).toString('base64') });
  }

  closeStdin(): Promise<void> {
    return this.#send({ type: 'stdin_close' });
  }

  signal(signal: SignalName): Promise<void> {
    return this.#send({ type: 'signal', signal });
  }

  /** Kills the command. */
  stop(): Promise<void> {
    return this.#send({ type: 'stop' });
  }

  /** Lets go of the connection, which kills the command unless it was started with `detach`. */
  close(): void {
    this.#socket.close();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<StreamOutput> {
    for (;;) {
      const output = this.#queue.shift();
      if (output) {
        this.#queuedBytes -= output.data.byteLength;
        if (this.#queuedBytes < highWaterBytes) this.#socket.resume();
        yield output;
      } else if (this.#over) {
        if (this.#failure) throw this.#failure;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #send(message: ExecClientMessage): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.send(JSON.stringify(message), (error) => (error ? reject(error) : resolve()));
    return promise;
  }

  #receive(message: ExecServerMessage): void {
    if (message.type === 'start') this.#started.resolve(message.pid);
    else if (message.type === 'exit') this.#end(message.exit_code);
    else if (message.type === 'error')
      this.#end(PerchError.fromBody(message) ?? new Error(message.error.message));
    else {
      const data = 'data' in message ? Buffer.from(message.data) : Buffer.from(message.data_base64, 'base64');
      this.#queue.push({ stream: message.type, data });
      this.#queuedBytes += data.byteLength;
      if (this.#queuedBytes >= highWaterBytes) this.#socket.pause();
      this.#wake?.();
    }
  }

  #end(how: number | Error): void {
    if (this.#over) return;
    this.#over = true;
    if (typeof how === 'number') this.#exit.resolve(how);
    else {
      this.#failure = how;
      this.#started.reject(how);
      this.#exit.reject(how);
    }
    this.#wake?.();
    this.#socket.close();
  }
}

function errorOf(text: string, status: number | undefined): Error {
  try {
    const error = PerchError.fromBody(JSON.parse(text));
    if (error) return error;
  } catch {
    // Not JSON: something other than Perch answered.
  }
  return new Error(`The connection was refused with status ${status}.`);
}
