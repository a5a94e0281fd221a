/** The Perch that serves all files that need none of their own, one after another. */
import { inject } from 'vitest';

export const shared = inject('perch');
