import { open } from 'node:fs/promises';
import { hasCode } from '../system-error.ts';

/** Cheap reasons against KVM. A device that opens need not work: only a guest shows that. */
export async function kvmObstacle(): Promise<string | undefined> {
  try {
    const device = await open('/dev/kvm', 'r+');
    await device.close();
    return undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'there is no /dev/kvm';
    return `/dev/kvm does not open (${(error as NodeJS.ErrnoException).code})`;
  }
}
