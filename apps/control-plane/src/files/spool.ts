import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isDiskFull } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';

/** Bytes that all uploads together may have waiting. */
const defaultLimit = 1024 * 1024 * 1024;

/**
 * Files for uploads whose contents come before their path. They have no name once they are open, so that a
 * crash leaves nothing.
 */
export class Spool {
  readonly #dir: string;
  readonly #limit: number;
  #used = 0;

  private constructor(dir: string, limit: number) {
    this.#dir = dir;
    this.#limit = limit;
  }

  static async open(dir: string, limit = defaultLimit): Promise<Spool> {
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return new Spool(dir, limit);
  }

  get used(): number {
    return this.#used;
  }

  /** Takes a stream in whole, or keeps nothing. @throws PerchError body_too_large, host_disk_full; what `source` throws */
  async take(source: AsyncIterable<Buffer>): Promise<SpooledFile> {
    const path = join(this.#dir, randomBytes(8).toString('hex'));
    const handle = await open(path, 'wx+', 0o600);
    await rm(path);
    let size = 0;
    const release = async () => {
      this.#used -= size;
      size = 0;
      await handle.close().catch(() => {});
    };
    const counted = async function* (this: Spool) {
      for await (const chunk of source) {
        size += chunk.length;
        this.#used += chunk.length;
        if (this.#used > this.#limit) {
          throw new PerchError(
            'body_too_large',
            'The file came before its path and is too large to wait for it: send `path` first, then there is no limit.',
            { limit_bytes: this.#limit },
          );
        }
        yield chunk;
      }
    };
    try {
      await pipeline(
        counted.call(this),
        createWriteStream('', { fd: handle.fd, autoClose: false, start: 0 }),
      );
    } catch (error) {
      await release();
      throw isDiskFull(error) ? diskFull(error) : error;
    }
    return {
      stream: () => createReadStream('', { fd: handle.fd, autoClose: false, start: 0 }),
      [Symbol.asyncDispose]: release,
    };
  }
}

export interface SpooledFile extends AsyncDisposable {
  stream(): AsyncIterable<Buffer>;
}

function diskFull(cause: unknown): PerchError {
  const message =
    'The file came before its path, and the disk of the host was full before all of it was there.';
  return new PerchError('host_disk_full', message, {}, { cause });
}
