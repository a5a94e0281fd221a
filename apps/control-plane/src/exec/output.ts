import { isUtf8 } from 'node:buffer';
import type { OutputEncoding } from '@perch/protocol';
import { incompleteTail } from './utf8.ts';

export interface Output {
  data: string;
  encoding: OutputEncoding;
  truncated: boolean;
}

/** Gathers one stream up to a limit of bytes; what comes after is dropped and the output says so. */
export class OutputCollector {
  readonly #limit: number;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  #truncated = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(chunk: Buffer): void {
    const room = this.#limit - this.#size;
    if (chunk.length > room) this.#truncated = true;
    if (room <= 0) return;
    const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
    this.#chunks.push(kept);
    this.#size += kept.length;
  }

  result(): Output {
    const [first] = this.#chunks;
    let bytes = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks);
    // The limit may have cut a character in two, which does not make text binary.
    if (this.#truncated) bytes = withoutTail(bytes);
    const encoding = isUtf8(bytes) ? 'utf-8' : 'base64';
    if (encoding === 'base64' && this.#truncated) bytes = Buffer.concat(this.#chunks);
    return {
      data: bytes.toString(encoding === 'utf-8' ? 'utf8' : 'base64'),
      encoding,
      truncated: this.#truncated,
    };
  }
}

function withoutTail(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length - incompleteTail(bytes));
}
