import { closeSync, existsSync, openSync, renameSync, statSync, writeSync } from 'node:fs';

/**
 * An append-only log file: grown to `maxBytes` it is kept once as `{file}.1`, and a new one begins. A line that
 * cannot be written, as on a full disk, is lost: the daemons that it is of work on.
 */
export class RotatingLog {
  readonly #file: string;
  readonly #maxBytes: number;
  #fd: number;
  #bytes: number;

  constructor(file: string, maxBytes: number) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#fd = openSync(file, 'a', 0o600);
    this.#bytes = existsSync(file) ? statSync(file).size : 0;
  }

  write(chunk: Buffer): void {
    try {
      if (this.#bytes > this.#maxBytes) this.#rotate();
      this.#bytes += writeSync(this.#fd, chunk);
    } catch {
      // There is no better place to say it.
    }
  }

  /** The file is there all the time: when no new one can be made, the old one is gone on with. */
  #rotate(): void {
    renameSync(this.#file, `${this.#file}.1`);
    const before = this.#fd;
    this.#fd = openSync(this.#file, 'a', 0o600);
    closeSync(before);
    this.#bytes = 0;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
