/** A connection to the QEMU Machine Protocol: commands in flight by id, events as they come. */
import type { Duplex } from 'node:stream';
import { LineReader } from './line-reader.ts';
import { parseMessage, type QmpEvent, type QmpMessage } from './messages.ts';

/**
 * - `refused`: QEMU answered with an error; the command had no effect.
 * - `not_sent`: the connection was closed before.
 * - `unknown`: no answer came in time, or the connection broke before it.
 */
export type QmpOutcome = 'refused' | 'not_sent' | 'unknown';

export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly outcome: QmpOutcome;

  constructor(outcome: QmpOutcome, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.outcome = outcome;
  }
}

export interface QmpOptions {
  /** For the answer to a command, milliseconds. */
  timeoutMs?: number;
  onEvent?: (event: QmpEvent) => void;
}

interface Pending {
  command: string;
  resolve: (value: unknown) => void;
  reject: (error: QmpError) => void;
  timer: NodeJS.Timeout | undefined;
}

export class QmpClient {
  /** Settles when the connection is over, with the cause unless we closed it. Never rejects. */
  readonly closed: Promise<Error | undefined>;
  /** Of QEMU, from its greeting. */
  version = '';
  readonly #stream: Duplex;
  readonly #timeoutMs: number;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #lines = new LineReader();
  readonly #pending = new Map<number, Pending>();
  readonly #settleClosed: (cause: Error | undefined) => void;
  #greeted: ((version: string) => void) | undefined;
  #over = false;
  #nextId = 1;

  private constructor(stream: Duplex, options: QmpOptions) {
    this.#stream = stream;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#onEvent = options.onEvent ?? (() => {});
    const closed = Promise.withResolvers<Error | undefined>();
    this.closed = closed.promise;
    this.#settleClosed = closed.resolve;
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', (error) => this.#end(error));
    stream.on('close', () => this.#end(new Error('QEMU closed the connection')));
  }

  /**
   * Waits for the greeting and agrees on the protocol, which a QEMU that is still being set up does later. Closes the
   * stream when that fails or `signal` aborts.
   * @throws QmpError
   */
  static async open(stream: Duplex, signal: AbortSignal, options: QmpOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(stream, options);
    const aborted = () => client.#end(new Error('QEMU did not answer in time', { cause: signal.reason }));
    signal.addEventListener('abort', aborted);
    if (signal.aborted) aborted();
    try {
      client.version = await client.#greeting();
      await client.#send('qmp_capabilities', undefined, undefined);
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal.removeEventListener('abort', aborted);
    }
  }

  /** @throws QmpError */
  execute(command: string, args?: Record<string, unknown>, timeoutMs = this.#timeoutMs): Promise<unknown> {
    return this.#send(command, args, timeoutMs);
  }

  #send(
    command: string,
    args: Record<string, unknown> | undefined,
    timeoutMs: number | undefined,
  ): Promise<unknown> {
    if (this.#over) return Promise.reject(new QmpError('not_sent', `${command}: the connection is closed`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const late = () => {
        this.#pending.delete(id);
        reject(new QmpError('unknown', `${command}: no answer within ${timeoutMs} ms`));
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
      this.#pending.set(id, { command, resolve, reject, timer });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Commands in flight fail. Safe to repeat. */
  close(): void {
    this.#end(undefined);
  }

  #greeting(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#greeted = resolve;
      void this.closed.then((cause) =>
        reject(new QmpError('unknown', `No greeting: ${whyClosed(cause)}`, { cause })),
      );
    });
  }

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      for (const line of this.#lines.push(chunk)) if (line !== '') this.#dispatch(parseMessage(line));
    } catch (cause) {
      this.#end(new Error('QEMU sent what is not its protocol', { cause }));
    }
  }

  #dispatch(message: QmpMessage): void {
    if (message.kind === 'event') this.#onEvent(message.event);
    else if (message.kind === 'greeting') this.#greeted?.(message.version);
    else if (message.id !== undefined) this.#answer(message.id, message);
    else throw new Error('An error that belongs to no command');
  }

  #answer(id: number, message: QmpMessage & { kind: 'return' | 'error' }): void {
    // An answer without a command is one that came after its time-out.
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (message.kind === 'return') pending.resolve(message.value);
    else {
      const reason = `${pending.command}: ${message.description} (${message.class})`;
      pending.reject(new QmpError('refused', reason));
    }
  }

  #end(cause: Error | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.destroy();
    for (const { command, reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new QmpError('unknown', `${command}: ${whyClosed(cause)}`, { cause }));
    }
    this.#pending.clear();
    this.#settleClosed(cause);
  }
}

function whyClosed(cause: Error | undefined): string {
  return cause?.message ?? 'the connection was closed';
}
