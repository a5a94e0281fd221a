/** The number of guests that stand ready for creates of a template, set by a caller. */

import type { HostClient } from '@perch/host-client';
import type { PinReady, ReadyGuests } from '@perch/protocol';
import type { HostDirectory } from '../hosts/index.ts';
import { withDefaults, withMachine } from './request.ts';

interface Parts {
  host: Pick<HostClient, 'pinReady'>;
  directory: Pick<HostDirectory, 'source'>;
}

/**
 * The guests have the machine of a create that says as much about it.
 * @throws PerchError template_not_found, disk_too_small, shape_mismatch, too_many_ready
 */
export async function pinReady(
  { host, directory }: Parts,
  template: string,
  { count, ...machine }: PinReady,
  requestId: string,
): Promise<ReadyGuests> {
  const asked = { template, ...machine };
  const source = await directory.source(template);
  const { vcpus, memory_mb, disk_mb } = withMachine(withDefaults(asked), asked, source);
  return host.pinReady({ template, vcpus, memory_mb, disk_mb, count }, requestId);
}
