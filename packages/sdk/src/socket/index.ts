/** WebSockets of a sandbox, in Node and in browsers. */
export { connect } from './connect.ts';
export { Inbox } from './inbox.ts';
export type { Socket } from './socket.ts';
