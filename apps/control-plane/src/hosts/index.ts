export { HostDirectory, type Source } from './directory.ts';
export { watchHost } from './watch.ts';
