/** Pagers: each serves the memory of one VM that goes on. docs/architecture/pager.md tells how. */
export type { PagerCounts } from './counts.ts';
export {
  clearPager,
  countsOfPager,
  keepWorkingSet,
  pagerSocket,
  type StartedPager,
  startPager,
} from './start.ts';
export { type Prefetch, WorkingSets } from './working-sets.ts';
