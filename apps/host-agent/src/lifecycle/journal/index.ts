/** The promises and beginnings of this host, and the parts below that all of lifecycle needs. */
export { asDiskFull, DiskRoom } from './disk-room.ts';
export { captured, started, tornDown } from './failpoints.ts';
export {
  type HeldIdentity,
  Journal,
  type SandboxRecord,
  type SandboxSpec,
  type TransitionDetail,
} from './journal.ts';
export { Mutex } from './mutex.ts';
export type { HostState } from './state-machine.ts';
export { milliseconds, Stopwatch } from './stopwatch.ts';
export { sweepUnowned } from './sweep.ts';
