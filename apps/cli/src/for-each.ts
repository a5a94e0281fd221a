import { type Output, reportError } from './output.ts';

/** Does the work for all of them at once; one that fails is reported and keeps none of the others. */
export async function forEach(
  ids: string[],
  output: Output,
  work: (id: string) => Promise<void>,
): Promise<void> {
  const results = await Promise.allSettled(ids.map(work));
  for (const result of results) {
    if (result.status === 'rejected') process.exitCode = reportError(result.reason, output.json);
  }
}
