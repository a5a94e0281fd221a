/** Places where a test can end a process, or hold it. */
export { Failpoints, heldFile } from './failpoints.ts';
