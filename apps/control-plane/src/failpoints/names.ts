/** The one list of places where this process can be told to end, or to wait: `{operation}.{step just done}`. */

/**
 * Of what is asked of the host: the row says that it is on its way, the host has answered and nothing is written of
 * it, and it is written and nobody is told.
 */
const steps = ['written', 'answered', 'done'] as const;
const operations = ['create', 'pause', 'resume', 'destroy'] as const;

type Step = `${(typeof operations)[number]}.${(typeof steps)[number]}`;

export const failpoints = [
  ...operations.flatMap((operation) => steps.map((step): Step => `${operation}.${step}`)),
  /** The idempotency key is taken, and is of no sandbox yet. */
  'create.reserved',
  /** The host has made nothing, and there is a row. */
  'create.refused',
  /** The host has the snapshot, of which there is no row. */
  'snapshot.answered',
  /** The row of one child is written; those of all are. */
  'fork.row',
  'fork.written',
  'fork.answered',
  /** The row of one child says that it runs; those of all do. */
  'fork.child',
  'fork.done',
  /** The host says that a sandbox has failed; and that is written. */
  'fail.told',
  'fail.done',
  /** The state that a process before has left is read, and the host has not been asked. */
  'start.loaded',
] as const;

export type Failpoint = (typeof failpoints)[number];
