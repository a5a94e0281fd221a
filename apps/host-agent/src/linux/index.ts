/** The only place of the host agent that makes system calls or runs system tools. */
export * from './cgroup.ts';
export * from './clone.ts';
export * from './cpu.ts';
export * from './ffi.ts';
export * from './netns.ts';
export * from './nft.ts';
export * from './process.ts';
export * from './process-confine.ts';
export * from './process-end.ts';
export * from './process-memory.ts';
export * from './process-signal.ts';
export * from './run.ts';
export * from './sparse.ts';
export * from './sync.ts';
export * from './tsc.ts';
export * from './tun.ts';
export * from './user.ts';
