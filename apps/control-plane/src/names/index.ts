/** Names of sandboxes for programs of this machine, where nothing else knows them. */
export { NameServer } from './server.ts';
