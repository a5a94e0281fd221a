/** The lab host: a machine with device-mapper, KVM, cgroup v2 and systemd, on one that has none of them. */
import { cacheDir } from '../images/index.ts';
import { labParts } from './parts.ts';
import { ensureState } from './state.ts';

/** Builds and boots a lab where that was not done yet. A run needs no network afterwards. @throws BuildError, LabDied */
export async function ensureLab(log: (line: string) => void): Promise<void> {
  const cache = cacheDir();
  await ensureState(cache, await labParts(cache), { log });
}
