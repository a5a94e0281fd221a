/** Kernel, initramfs and base image. */
import { stat } from 'node:fs/promises';
import type { Settings } from '@perch/protocol';
import { resolveArtifacts } from '../../../../images/index.ts';
import { type Finding, ok, problem } from './finding.ts';

export async function artifacts(settings: Settings): Promise<Finding> {
  const name = 'guest images';
  try {
    const { kernel, kernelRelease, initramfs, pager, base } = await resolveArtifacts(settings.cacheDir);
    await Promise.all([kernel, initramfs, pager, base.rootfs].map((path) => stat(path)));
    return ok(
      name,
      `kernel ${kernelRelease}, base image ${base.contentId.slice(0, 12)}, in ${settings.cacheDir}`,
    );
  } catch (error) {
    return problem(
      name,
      error instanceof Error ? error.message : String(error),
      '`npm run setup` builds what is missing; PERCH_CACHE says where.',
    );
  }
}
