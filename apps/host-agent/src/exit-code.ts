/** How `perch-host` tells its launcher why it did not start. */
import { RunError } from './linux/index.ts';

/** EX_CONFIG of sysexits.h: starting again would fail again. */
const cannotStart = 78;
const mayPass = 1;

/** What a tool failed at may have been a moment's: it was killed, or the machine was short of something. */
export function exitCodeOf(error: unknown): number {
  const errors = error instanceof AggregateError ? error.errors : [error];
  return errors.some((one) => one instanceof RunError && !isMissing(one)) ? mayPass : cannotStart;
}

/** A tool that is not there will not be there the next time. */
function isMissing({ outcome, cause }: RunError): boolean {
  return outcome === 'not_started' && (cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}
