/** Guests that stand ready for a create: how many of which kind, and the pool that makes them and gives them away. */
export { type GuestRequest, nameOf } from './kinds.ts';
export { type Pin, Pins } from './pins.ts';
export { type Kept, PrewarmedPool, type ReadyGuest, type ReadyState } from './prewarmed-pool.ts';
