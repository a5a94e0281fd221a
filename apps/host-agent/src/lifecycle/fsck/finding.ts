import type { FsckFinding } from '@perch/protocol';
import { sentence } from '../sandbox/index.ts';

interface Problem extends Pick<FsckFinding, 'what' | 'problem' | 'remedy'> {
  /** The action of `--repair`, where it may. */
  remove?: (() => Promise<void>) | undefined;
}

/** A finding that is repaired if it is to be, and can be. */
export async function findingOf({ remove, ...told }: Problem, repair: boolean): Promise<FsckFinding> {
  if (!(repair && remove)) return { ...told, repaired: false };
  try {
    await remove();
    return { ...told, repaired: true };
  } catch (error) {
    return { ...told, remedy: `It could not be removed: ${sentence(error)}`, repaired: false };
  }
}

/** A thing that nobody knows to be whole: the look at it failed. */
export function notLookedAt(what: string, error: unknown): Problem {
  return {
    what,
    problem: `It could not be looked at: ${sentence(error)}`,
    remedy: 'Look whether the disk and its file system work, then run `perch fsck` again.',
  };
}
