import { type ErrorContexts, PerchError } from '@perch/protocol';

/** @param unanswered the guest agent did not say so, within a grace beyond that time */
export function timeoutError(
  timeoutSec: number,
  unanswered: boolean,
  output: Omit<ErrorContexts['exec_timeout'], 'timeout_sec'>,
): PerchError {
  const message = unanswered
    ? `The sandbox did not answer within the ${timeoutSec} s of the command, which may still run.`
    : `The command took longer than ${timeoutSec} s and was killed.`;
  return new PerchError('exec_timeout', message, { timeout_sec: timeoutSec, ...output });
}
