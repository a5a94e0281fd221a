/** The last of a guest's console. */
import { consoleBytes, ids } from './arguments.ts';
import { isObject, type QmpClient } from './qmp/index.ts';

/** Keeps the last bytes of a stream. */
export class ConsoleTail {
  readonly #limit: number;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(limit: number = consoleBytes) {
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

/**
 * Moves what QEMU holds into `tail`. A read of the ring buffer empties it, so what was read is kept here.
 * @throws QmpError
 */
export async function drainConsole(qmp: QmpClient, tail: ConsoleTail, timeoutMs: number): Promise<void> {
  const read = { device: ids.console, size: consoleBytes, format: 'base64' };
  const value = await qmp.execute('ringbuf-read', read, timeoutMs);
  // Bytes, of which the guest chose every one: never text for a parser of ours.
  if (typeof value === 'string') tail.append(Buffer.from(value, 'base64'));
  else throw new Error(`ringbuf-read gave ${isObject(value) ? 'an object' : typeof value}`);
}
