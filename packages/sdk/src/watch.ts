/** The changes in a directory of a sandbox, over a WebSocket. */
import { type FileChange, PerchError, type WatchMessage } from '@perch/protocol';
import { UnexpectedAnswerError } from './errors.ts';
import type { Http } from './http.ts';
import { connect, Inbox, type Socket } from './socket/index.ts';

export interface WatchOptions {
  /** Directories below it too, and those that come later. Default: false. */
  recursive?: boolean | undefined;
  /** Ends the watch, too. */
  signal?: AbortSignal | undefined;
}

/**
 * To be iterated once. Leaving it early ends the watch. It throws when the watch ends: `file_not_found` when the
 * directory goes, `events_lost` when changes come faster than they are taken, `sandbox_not_running` when the sandbox is
 * paused.
 */
export class FileWatch implements AsyncIterable<FileChange>, AsyncDisposable {
  readonly #socket: Socket;
  readonly #inbox: Changes;

  private constructor(socket: Socket, inbox: Changes) {
    this.#socket = socket;
    this.#inbox = inbox;
  }

  /** Resolves when the directory is watched. */
  static async open(http: Http, id: string, path: string, options: WatchOptions): Promise<FileWatch> {
    const { recursive = false, signal } = options;
    const inbox = new Changes('files/watch');
    const query = { path, recursive: String(recursive) };
    const socket = await connect(http, { id, path: 'files/watch', query }, inbox, signal);
    try {
      const first = await inbox.next();
      if (first.type !== 'start') throw asError(first);
      return new FileWatch(socket, inbox);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** @throws PerchError, ConnectionError */
  async *[Symbol.asyncIterator](): AsyncGenerator<FileChange, void, void> {
    try {
      for (;;) {
        const message = await this.#inbox.next();
        if (message.type === 'error' || message.type === 'start') throw asError(message);
        yield message;
      }
    } finally {
      this.#socket.close();
    }
  }

  close(): void {
    this.#socket.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

class Changes extends Inbox<WatchMessage> {
  protected read(received: string | Uint8Array): WatchMessage {
    if (typeof received !== 'string') throw new Error('it is binary');
    return JSON.parse(received) as WatchMessage;
  }

  protected arrived({ type }: WatchMessage): boolean {
    return type === 'error';
  }
}

function asError(message: WatchMessage): Error {
  return (
    PerchError.fromBody(message) ??
    new UnexpectedAnswerError('files/watch', 200, `${message.type} out of order`)
  );
}
