/**
 * What a guest in the lab does when emulated virtualization ends it: it stands still while it boots, or its processor
 * resets. That says nothing of Perch, and the run is repeated. One that goes wrong each time has failed.
 */
import { isPerchError } from '../../packages/protocol/src/index.ts';

/** The exit code by which a command tells the lab that it has died in part. */
const labHasDied = 75;
const guestEnds = / could be prepared\..* aborted|The guest restarted/;

/** Ends this process as the lab's end does, if the error is that. */
export function endWithLab(error: unknown): never {
  if (
    process.env.PERCH_LAB === '1' &&
    isPerchError(error, 'sandbox_failed') &&
    guestEnds.test(error.message)
  ) {
    console.error(`${error.message}: taken for the lab's end`);
    process.exit(labHasDied);
  }
  throw error;
}

/** The same for what nobody catches. */
export function endWithLabAtAnyTime(): void {
  process.on('uncaughtException', (thrown) => {
    try {
      endWithLab(thrown);
    } catch (error) {
      console.error(error);
      process.exit(1);
    }
  });
}
