export type { Source } from './directory.ts';
export { type Host, Hosts } from './hosts.ts';
export { watchHost } from './watch.ts';
