/** The number of guests that stand ready for creates of a template, set by a caller. */

import type { PinReady, ReadyGuests } from '@perch/protocol';
import type { Host } from '../hosts/index.ts';
import { withDefaults, withMachine } from './request.ts';

/**
 * The guests have the machine of a create that says as much about it.
 * @throws PerchError template_not_found, disk_too_small, shape_mismatch, too_many_ready
 */
export async function pinReady(
  { client, directory }: Pick<Host, 'client' | 'directory'>,
  template: string,
  { count, ...machine }: PinReady,
  requestId: string,
): Promise<ReadyGuests> {
  const asked = { template, ...machine };
  const source = await directory.source(template);
  const { vcpus, memory_mb, disk_mb } = withMachine(withDefaults(asked), asked, source);
  return client.pinReady({ template, vcpus, memory_mb, disk_mb, count }, requestId);
}
