import type { Kind } from '../src/compile/index.ts';

/** Name of the folder of the programs of this checkout: the kind, and a digest of their sources. */
export function nameOf(kind: Kind): string;

/**
 * Gives that folder, made first where it is missing.
 * @returns undefined where nobody may write to the checkout
 * @throws Error when the sources do not compile
 */
export function compiled(kind: Kind): Promise<string | undefined>;
