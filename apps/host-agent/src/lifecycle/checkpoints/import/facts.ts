/** Facts of its machine that an older layout does not say. */
import { type ImportFacts, limits } from '@perch/protocol';
import type { ManifestFacts } from '../../../snapshot/index.ts';
import type { Assumed, ImportHost } from './request.ts';

export interface Known
  extends Pick<ManifestFacts, 'monitor' | 'cpu' | 'kernel_content_id' | 'initramfs_content_id'> {
  vcpus: number;
}

/** The facts that were said, and else those of this host. @returns the latter in words too */
export function settleFacts(said: ImportFacts, host: ImportHost): { known: Known; assumed: Assumed } {
  const { monitor, cpu } = host.machine;
  const { kind, version, accelerator } = monitor;
  const here: Known = {
    vcpus: limits.vcpus.default,
    monitor,
    cpu,
    kernel_content_id: host.boot.kernelId,
    initramfs_content_id: host.boot.initramfsId,
  };
  const words: Record<keyof Known, string> = {
    vcpus: `${here.vcpus}`,
    monitor: `${kind}/${version}/${accelerator}`,
    cpu,
    kernel_content_id: here.kernel_content_id,
    initramfs_content_id: here.initramfs_content_id,
  };
  const assumed = Object.entries(words)
    .filter(([fact]) => said[fact as keyof Known] === undefined)
    .map(([fact, value]) => ({ fact, value }));
  return { known: { ...here, ...said }, assumed };
}
