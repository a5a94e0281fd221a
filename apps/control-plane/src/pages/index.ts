export type { Page } from './page.ts';
export { loadTestPage } from './test-page.ts';
