/** Keeps the last bytes of a guest's console. */
export class ConsoleTail {
  readonly #limit: number;
  #bytes: Buffer = Buffer.alloc(0);

  /** @param limit bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  append(bytes: Buffer): void {
    const all = Buffer.concat([this.#bytes, bytes]);
    // Copied, so that what was dropped is not kept alive by a view of it.
    this.#bytes = all.length > this.#limit ? Buffer.from(all.subarray(-this.#limit)) : all;
  }

  last(): Buffer {
    return Buffer.from(this.#bytes);
  }
}

/** The last line of `text` that holds `marker`, from the marker on. */
export function lastFrom(text: Buffer, marker: string): string | undefined {
  const at = text.lastIndexOf(marker);
  if (at < 0) return undefined;
  const end = text.indexOf('\n', at);
  return text.toString('latin1', at, end < 0 ? undefined : end);
}
