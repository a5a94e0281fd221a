/** Pagers: each serves the memory of one VM that goes on. docs/architecture/pager.md tells how. */
export { clearPager, pagerSocket, type StartedPager, startPager } from './start.ts';
