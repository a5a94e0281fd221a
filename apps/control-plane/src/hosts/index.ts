export type { Source } from './directory.ts';
export { type Host, type HostAddress, Hosts } from './hosts.ts';
export { watchHost } from './watch.ts';
