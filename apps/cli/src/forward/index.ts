/** Ports of this machine that lead to ports of a sandbox. */
export { type Forward, forward } from './forward.ts';
export { type Mapping, mapping } from './mapping.ts';
