export { HostClient } from './client.ts';
export { HostDirectory } from './directory.ts';
export { type HostWatcher, watchHost } from './watch.ts';
