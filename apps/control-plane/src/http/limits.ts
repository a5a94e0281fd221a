import type { RateLimit } from '../config/index.ts';
import { TokenBuckets } from './rate-limit.ts';

/** For one address: requests to what is public, and requests that no key opened. */
const publicLimit = { burst: 600, seconds: 10 };
const refusedLimit = { burst: 60, seconds: 60 };

/** How often each may ask, whatever the front. */
export class Limits {
  readonly perKey: TokenBuckets;
  readonly perAddress = new TokenBuckets(publicLimit);
  readonly refused = new TokenBuckets(refusedLimit);

  constructor(perKey: RateLimit) {
    this.perKey = new TokenBuckets(perKey);
  }
}
