/** Needs of several programs from Node and Linux that no one of them owns. Imports nothing of ours. */
export { placeDurably, sync, writeDurably } from './durable.ts';
export { printable, quoted } from './printable.ts';
export { hasCode, ifThere, isDiskFull } from './system-error.ts';
export { findUser, type User } from './user.ts';
