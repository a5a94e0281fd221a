export { ensureFirstKey } from './first-key.ts';
export { ApiKeys, type Caller, type KeyInfo } from './keys.ts';
export { Tickets } from './tickets.ts';
