/** How `perch-host` tells its launcher why it did not start. */
import { exitCannotStart, hasCode } from '@perch/node-kit';
import { ProcessRemains, RunError } from './linux/index.ts';

const mayPass = 1;

/** The failure of a tool may pass, as when it was killed; a process that remains may end. */
export function exitCodeOf(error: unknown): number {
  const errors = error instanceof AggregateError ? error.errors : [error];
  return errors.some(passes) ? mayPass : exitCannotStart;
}

function passes(error: unknown): boolean {
  return error instanceof ProcessRemains || (error instanceof RunError && !isMissing(error));
}

/** A tool that is not there will not be there the next time. */
function isMissing({ outcome, cause }: RunError): boolean {
  return outcome === 'not_started' && hasCode(cause, 'ENOENT');
}
