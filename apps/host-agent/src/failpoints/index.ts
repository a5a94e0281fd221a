/** Places where a test can end this process. */
export { armFailpointsOf, disarmFailpoints, failpoint, parseFailpoint } from './failpoint.ts';
export { type CaptureStep, type Failpoint, failpoints, type StartStep, type TeardownStep } from './names.ts';
