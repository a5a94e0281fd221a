/** The part of a WebSocket that is the same whatever it is for. */
export { Pings } from './pings.ts';
export { maxUnsentBytes, open, type ServerSocket } from './socket.ts';
