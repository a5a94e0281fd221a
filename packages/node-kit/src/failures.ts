/**
 * What failed, in the order in which it did. Of an error in a scope whose end fails too, JavaScript makes one error,
 * whose message tells of neither.
 */
export function failuresOf(error: unknown): [first: unknown, ...later: unknown[]] {
  if (!(error instanceof SuppressedError)) return [error];
  return [...failuresOf(error.suppressed), ...failuresOf(error.error)];
}
