/** The Perch of this worker: it serves all files that need none of their own, one after another. */
import { inject } from 'vitest';

export const shared = perchOf(Number(process.env.VITEST_POOL_ID));

function perchOf(worker: number) {
  const perch = inject('perches')[worker - 1];
  if (!perch) throw new Error(`There is no Perch for the worker ${worker}.`);
  return perch;
}
