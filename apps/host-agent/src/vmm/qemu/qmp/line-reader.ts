/** Cuts a byte stream into lines, and refuses one that is longer than any that QEMU has reason to send. */

/** The longest answer is a console read in base64, 175 KB. */
export const maxLineBytes = 2 ** 20;

export class LineTooLong extends Error {
  override readonly name = 'LineTooLong';
}

export class LineReader {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #held = 0;

  constructor(limit = maxLineBytes) {
    this.#limit = limit;
  }

  /**
   * @returns the lines that this chunk completes, without their ends (`\n` or `\r\n`)
   * @throws LineTooLong; the stream cannot be read on then
   */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#hold(chunk.subarray(start, end));
      lines.push(this.#take());
      start = end + 1;
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start));
    return lines;
  }

  #hold(part: Buffer): void {
    this.#held += part.length;
    if (this.#held > this.#limit) throw new LineTooLong(`A line has more than ${this.#limit} bytes`);
    this.#parts.push(part);
  }

  #take(): string {
    const line = Buffer.concat(this.#parts).toString();
    this.#parts = [];
    this.#held = 0;
    return line.endsWith('\r') ? line.slice(0, -1) : line;
  }
}
