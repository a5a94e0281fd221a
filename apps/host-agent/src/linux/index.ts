/** The only place of the host agent that makes system calls or runs system tools. */
export { findTool, RunError, run } from '@perch/node-kit';
export * from './cgroup.ts';
export * from './clone.ts';
export * from './cpu.ts';
export * from './exchange.ts';
export * from './ffi.ts';
export * from './leftover.ts';
export * from './netns.ts';
export * from './nft.ts';
export * from './process.ts';
export * from './process-confine.ts';
export * from './process-end.ts';
export * from './process-memory.ts';
export * from './process-signal.ts';
export * from './sparse.ts';
export * from './tsc.ts';
export * from './tun.ts';
export * from './unix-socket.ts';
