/** One driver for each sandbox: what it holds, and what its transitions do. */
export { SandboxDriver } from './driver.ts';
export { historyOf } from './history.ts';
export { exists, Registry } from './registry.ts';
export { type Origin, type ResourceDeps, Resources, type Secrets } from './resources.ts';
export { sentence } from './sandbox-state.ts';
export type { StartFiles, StartPlan } from './start-plan.ts';
