export type { Guest } from './guest.ts';
export { type Connect, GuestPool } from './pool.ts';
