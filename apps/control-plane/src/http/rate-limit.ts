import type { RateLimit } from '../config/index.ts';

interface Bucket {
  tokens: number;
  at: number;
}

const maxBuckets = 10_000;

/** A bucket of tokens for each name: a key, or the address of someone without one. */
export class TokenBuckets {
  readonly #burst: number;
  readonly #perMs: number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #now: () => number;

  constructor(limit: RateLimit, now: () => number = () => performance.now()) {
    this.#burst = limit.burst;
    this.#perMs = limit.burst / (limit.seconds * 1000);
    this.#now = now;
  }

  /** Takes a token. Answers 0, or the seconds after which there is one. */
  take(name: string): number {
    const bucket = this.#bucket(name);
    const now = this.#now();
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (now - bucket.at) * this.#perMs);
    bucket.at = now;
    if (bucket.tokens >= 1) {
      bucket.tokens--;
      return 0;
    }
    return Math.max(1, Math.ceil((1 - bucket.tokens) / this.#perMs / 1000));
  }

  #bucket(name: string): Bucket {
    const known = this.#buckets.get(name);
    if (known) return known;
    // The oldest goes: a flood of addresses costs no memory, and at worst forgets a limit.
    if (this.#buckets.size >= maxBuckets) {
      for (const oldest of this.#buckets.keys()) {
        this.#buckets.delete(oldest);
        break;
      }
    }
    const bucket = { tokens: this.#burst, at: this.#now() };
    this.#buckets.set(name, bucket);
    return bucket;
  }
}
