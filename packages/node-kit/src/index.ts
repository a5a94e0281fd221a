/** Needs of several programs from Node and Linux that no one of them owns. Imports nothing of ours. */
export { domainBelow } from './certificate.ts';
export { drainedOrClosed } from './drained.ts';
export { placeDurably, sync, writeDurably } from './durable.ts';
export { eventLoopEveryMs } from './event-loop.ts';
export { exitCannotStart } from './exit-code.ts';
export { failuresOf } from './failures.ts';
export * from './machine/index.ts';
export { release } from './memory.ts';
export { printable, quoted } from './printable.ts';
export { ofProcess, type ProcessStat, pids, readStat } from './process.ts';
export { findTool, RunError, type RunOptions, type RunResult, run } from './run.ts';
export { hasCode, ifThere, isDiskFull } from './system-error.ts';
export { findUser, lineThatAdds, type User } from './user.ts';
