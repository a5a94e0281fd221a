import { hash, timingSafeEqual } from 'node:crypto';

/** Compares digests, so that time tells neither the contents nor the length. */
export function isSame(secret: string, presented: string): boolean {
  return timingSafeEqual(hash('sha256', secret, 'buffer'), hash('sha256', presented, 'buffer'));
}
