/** Places where a test can end this process. */
export { armFailpointsOf, disarmFailpoints, failpoint, parseFailpoint } from './failpoint.ts';
export { type CaptureStep, failpoints, type StartStep, type TeardownStep } from './names.ts';
