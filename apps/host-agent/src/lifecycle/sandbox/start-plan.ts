/** How the first life of a sandbox begins. It is made before the driver is asked, which needs nobody else then. */
import { failpoint } from '../../failpoints/index.ts';
import type { BaseImage } from '../../images/index.ts';
import type { SavedState, StateStore } from '../checkpoints/index.ts';
import type { SandboxRecord } from '../journal/index.ts';
import type { Origin, Resources, Secrets } from './resources.ts';

/** Files that a sandbox goes on from. */
export interface StartFiles {
  /**
   * Makes it the checkpoint that the first life of a sandbox goes on from. Once it has settled, nothing more is made.
   * @throws what `signal` was aborted with, which cuts everything short but the linking of files
   */
  begin: (id: string, signal: AbortSignal) => Promise<SavedState>;
}

export interface StartPlan {
  /** An image is booted from power-on. A sandbox that took a ready guest over goes on with that, whatever this is. */
  from: { image: BaseImage } | StartFiles;
  /** Without them it stands still as its files have it, and nobody has told it anything. */
  secrets: Secrets | undefined;
}

export interface OriginDeps {
  saved: StateStore;
}

/** A sandbox keeps links of its own of all files that it starts from. @throws as StartFiles.begin, soon after an abort */
export async function originOf(
  { from }: StartPlan,
  { id, vm, identity }: SandboxRecord,
  resources: Resources,
  { saved }: OriginDeps,
  signal: AbortSignal,
): Promise<Origin> {
  if ('image' in from) return { kind: 'image', image: from.image };
  if (vm !== id && identity && resources.vm) {
    failpoint('takeover.journaled');
    await saved.moveAll(vm, id);
    failpoint('takeover.moved');
    return { kind: 'ready', vm: resources.vm, identity };
  }
  const snapshot = await from.begin(id, signal);
  failpoint('create.begun');
  return { kind: 'snapshot', snapshot };
}
