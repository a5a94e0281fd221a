import { UnexpectedAnswerError } from '../errors.ts';
import type { SocketListener } from './socket.ts';

/** Messages that wait to be read before the server is held back. */
const maxWaiting = 256;

/** Messages that have come, in order. */
export abstract class Inbox<M> implements SocketListener {
  hold: (hold: boolean) => void = () => {};
  /** Called when the connection has ended. */
  release: () => void = () => {};
  /** The last message has come, or the connection has ended. */
  over = false;
  readonly #call: string;
  #messages: M[] = [];
  #held = false;
  #end: { error: unknown } | undefined;
  #wake = Promise.withResolvers<void>();

  /** @param call such as `exec/stream`, for errors */
  constructor(call: string) {
    this.#call = call;
  }

  /** @throws when it is no message */
  protected abstract read(received: string | Uint8Array): M;
  /** Is told of each message. @returns whether it is the last */
  protected abstract arrived(message: M): boolean;
  /** Is told, once or more often, of the connection's end. */
  protected ended(_error: unknown): void {}

  message(received: string | Uint8Array): void {
    let message: M;
    try {
      message = this.read(received);
    } catch (error) {
      this.closed(new UnexpectedAnswerError(this.#call, 200, 'a message cannot be read', error));
      return;
    }
    if (this.over) return;
    this.over = this.arrived(message);
    this.#messages.push(message);
    if (this.#messages.length > maxWaiting && !this.#held) {
      this.#held = true;
      this.hold(true);
    }
    this.#wake.resolve();
  }

  closed(error: unknown): void {
    this.over = true;
    this.#end ??= { error };
    this.ended(error);
    this.release();
    this.#wake.resolve();
  }

  /** Throws the error of the connection once all that came is read. */
  async next(): Promise<M> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) {
        if (this.#held && this.#messages.length < maxWaiting / 2) {
          this.#held = false;
          this.hold(false);
        }
        return message;
      }
      if (this.#end) throw this.#end.error;
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }
}
