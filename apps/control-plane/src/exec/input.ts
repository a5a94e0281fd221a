/** Standard input on its way to a command. */
import { release } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';
import type { Guest } from '../guests/index.ts';

/** Bytes that wait before nothing more is read from the client. */
const maxWaiting = 4 * 1024 * 1024;
/** Bytes that are counted for a piece beside its own, so that many empty ones are bounded as well. */
const pieceCost = 64;

interface Parts {
  guest: Guest;
  /** Stops and starts reading from the client. */
  hold: (held: boolean) => void;
  signal: AbortSignal;
}

/** Input waits in order, also for the command's start; a command that ended or closed its stdin loses the rest. */
export class Input {
  readonly #parts: Parts;
  readonly #waiting: { bytes: Buffer; memory: Buffer }[] = [];
  #bytes = 0;
  #held = false;
  #closing = false;
  #feeding = false;
  #pid: number | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The command can take it. @param pid 0 when there is none */
  begin(pid: number): void {
    this.#pid = pid;
    void this.#feed();
  }

  /**
   * @param memory that the bytes lie in, and that nobody else uses
   * @throws PerchError stdin_not_open after its end
   */
  push(bytes: Buffer, memory: Buffer): void {
    if (this.#closing) throw notOpen(this.#pid, 'after stdin_close');
    this.#waiting.push({ bytes, memory });
    this.#bytes += bytes.length + pieceCost;
    if (this.#bytes > maxWaiting && !this.#held) this.#hold(true);
    void this.#feed();
  }

  close(): void {
    this.#closing = true;
    void this.#feed();
  }

  async #feed(): Promise<void> {
    if (this.#feeding || !this.#pid) return;
    this.#feeding = true;
    const { guest, signal } = this.#parts;
    try {
      while (this.#waiting.length > 0) {
        // Each call waits for the command; what has come meanwhile goes with the next one.
        const pieces = this.#waiting.splice(0);
        const cost = this.#bytes;
        const bytes = Buffer.concat(pieces.map((piece) => piece.bytes));
        for (const { memory } of pieces) release(memory);
        // False, or an error, is a command that ended or closed its stdin; its output says what became of it.
        const taken = await guest.sendStdin(this.#pid, bytes, signal).catch(() => false);
        // Bytes that were not taken may still be on their way.
        if (taken) release(bytes);
        this.#bytes -= cost;
        if (this.#held && this.#bytes <= maxWaiting / 2) this.#hold(false);
      }
      if (this.#closing) await guest.closeStdin(this.#pid, signal).catch(() => {});
    } finally {
      this.#feeding = false;
    }
  }

  #hold(held: boolean): void {
    this.#held = held;
    this.#parts.hold(held);
  }
}

export function notOpen(pid: number | undefined, why: string): PerchError {
  const message = `The standard input of the command is not open: stdin came ${why}.`;
  return new PerchError('stdin_not_open', message, { pid: pid ?? 0 });
}
