/** Failures of system calls, told by their code. */

/** Whether it is one of the system with one of these codes, as `ENOENT`. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' && codes.includes(code);
}

/** The answer of a call for a path; undefined where there is nothing at it (ENOENT). */
export function ifThere<T>(answer: Promise<T>): Promise<T | undefined> {
  return answer.catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
}

/** Whether the disk was full, or a quota reached, here or in what caused it. */
export function isDiskFull(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (hasCode(at, 'ENOSPC', 'EDQUOT')) return true;
  return false;
}
