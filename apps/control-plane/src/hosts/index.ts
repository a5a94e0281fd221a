export { HostClient } from './client.ts';
export { HostDirectory } from './directory.ts';
export { watchHost } from './watch.ts';
