import { closeSync, existsSync, openSync, renameSync, statSync, writeSync } from 'node:fs';

/** An append-only log file: grown to `maxBytes` it is kept once as `{file}.1`, and a new one begins. */
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
    if (this.#bytes > this.#maxBytes) {
      this.close();
      renameSync(this.#file, `${this.#file}.1`);
      this.#fd = openSync(this.#file, 'a', 0o600);
      this.#bytes = 0;
    }
    this.#bytes += writeSync(this.#fd, chunk);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
