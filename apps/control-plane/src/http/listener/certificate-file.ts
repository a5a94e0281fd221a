import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { domainBelow } from '@perch/node-kit';
import type { Logger } from 'pino';

const lookEveryMs = 1000;

/** A certificate with its key, in files that others replace while this runs. */
export class CertificateFile {
  readonly #certificate: string;
  readonly #key: string;
  readonly #log: Logger;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #seen = '';
  #usable: SecureContextOptions | undefined;
  #domain: string | undefined;

  constructor(dir: string, log: Logger) {
    this.#certificate = join(dir, 'server.pem');
    this.#key = join(dir, 'server.key');
    this.#log = log;
  }

  /**
   * Looks at the files at most once a second.
   * @returns the same object while the files are the same; undefined where there are none
   */
  get(): SecureContextOptions | undefined {
    const now = performance.now();
    if (now - this.#lookedAt < lookEveryMs) return this.#usable;
    this.#lookedAt = now;
    const seen = `${stamp(this.#certificate)} ${stamp(this.#key)}`;
    if (seen !== this.#seen) this.#read(seen);
    return this.#usable;
  }

  /** `domainBelow` of it. */
  get domain(): string | undefined {
    return this.get() && this.#domain;
  }

  #read(seen: string): void {
    try {
      const options = { cert: readFileSync(this.#certificate), key: readFileSync(this.#key) };
      createSecureContext(options);
      this.#domain = domainBelow(new X509Certificate(options.cert));
      this.#usable = options;
      this.#seen = seen;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        this.#usable = undefined;
        this.#seen = seen;
        return;
      }
      // Between two renames key and certificate are not of each other. The one before serves on.
      this.#log.warn({ err: error }, 'the TLS certificate cannot be used');
    }
  }
}

/** Of one that cannot be looked at, why: whoever reads it is told the same. */
function stamp(path: string): string {
  try {
    const { ino, mtimeMs } = statSync(path);
    return `${ino}:${mtimeMs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
