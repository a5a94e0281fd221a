import type { FsckFinding } from '@perch/protocol';
import { type StatesDeps, statesFindings } from './states.ts';
import { type UnownedDeps, unownedFindings } from './unowned.ts';

export type FsckDeps = StatesDeps & UnownedDeps;

/** @param repair removes what nobody owns or needs; never what a sandbox or a name stands for */
export async function fsck(deps: FsckDeps, repair: boolean): Promise<FsckFinding[]> {
  return [...(await unownedFindings(deps, repair)), ...(await statesFindings(deps, repair))];
}
