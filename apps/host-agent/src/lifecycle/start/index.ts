/** How guests begin: room is found for them, from what they start from, or as one that stands ready. */
export { Admission, defaultMemoryMb } from './admission.ts';
export { BootSnapshots } from './boot-snapshots.ts';
export { Forks } from './forks.ts';
export type { Reservations } from './reservations.ts';
export type { Source, Sources } from './sources.ts';
export { type ReadyOptions, type StartDeps, StartPlanner } from './start-planner.ts';
