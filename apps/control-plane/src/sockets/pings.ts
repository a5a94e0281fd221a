import type { ServerSocket } from './socket.ts';

const pingMs = 20_000;

/**
 * A peer that did not answer the last ping is gone, and is cut off. While it is not read from its answer cannot come,
 * and the ping only tells it that this end lives; while it reads slowly it has not seen the ping. A peer that is gone
 * then is TCP's to notice.
 */
export class Pings implements Disposable {
  readonly #socket: ServerSocket;
  readonly #isHeld: () => boolean;
  readonly #timer: NodeJS.Timeout;
  #alive = true;

  /** @param isHeld whether the peer is not read from */
  constructor(socket: ServerSocket, isHeld: () => boolean = () => false) {
    this.#socket = socket;
    this.#isHeld = isHeld;
    socket.on('pong', () => this.answered());
    this.#timer = setInterval(() => this.#ping(), pingMs);
  }

  /** The peer lives, or may answer again. */
  answered(): void {
    this.#alive = true;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #ping(): void {
    if (this.#socket.bufferedAmount > 0) return;
    if (!this.#isHeld()) {
      if (!this.#alive) {
        this.#socket.terminate();
        return;
      }
      this.#alive = false;
    }
    this.#socket.ping();
  }
}
