/** @param cause what kept the monitor of this VM from starting */
export function notStarted(id: string, cause: unknown): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Error(`The VM monitor of ${id} did not start: ${why}`, { cause });
}
