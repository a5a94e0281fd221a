/** Guests that stand ready for a create: how many of which kind, and the pool that makes them and gives them away. */
export type { GuestRequest } from './kinds.ts';
export { PrewarmedPool, type ReadyGuest, type ReadyState } from './prewarmed-pool.ts';
