/** The text of docs/ERRORS.md beside status and remedy. A code that nothing describes does not compile. */
import type { ErrorDescriptions } from './description.ts';
import { guestErrors } from './guest.ts';
import { hostErrors } from './host.ts';
import { requestErrors } from './request.ts';
import { sandboxErrors } from './sandbox.ts';
import { snapshotErrors } from './snapshot.ts';

export type { ErrorDescription } from './description.ts';

/** Titles of the groups, in the order of the page. */
export const errorGroups: Record<string, Partial<ErrorDescriptions>> = {
  Requests: requestErrors,
  Sandboxes: sandboxErrors,
  Snapshots: snapshotErrors,
  'The machine and the daemons': hostErrors,
  'Commands and files': guestErrors,
};

/**
 * All of them, so that a code without one does not compile.
 * @public
 */
export const errorDescription: ErrorDescriptions = {
  ...requestErrors,
  ...sandboxErrors,
  ...snapshotErrors,
  ...hostErrors,
  ...guestErrors,
};
