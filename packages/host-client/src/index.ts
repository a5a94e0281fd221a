/** Clients of the host agent, on its socket: that of `perchd`, and the few calls that root makes by itself. */
export { HostClient } from './client.ts';
export { HostSocket } from './socket.ts';
