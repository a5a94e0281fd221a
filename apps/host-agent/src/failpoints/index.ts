/** Places where a test can end this process, or hold it. */
export { armFailpointsOf, disarmFailpoints, failpoint, heldFile, parseFailpoint } from './failpoint.ts';
export { type CaptureStep, type Failpoint, failpoints, type StartStep, type TeardownStep } from './names.ts';
