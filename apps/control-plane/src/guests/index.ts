export type { Guest } from './guest.ts';
export { type Connect, type GuestAddress, GuestPool } from './pool.ts';
export type { Upstream } from './upstream.ts';
