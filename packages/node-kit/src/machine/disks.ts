/** The needs of each kind of disk. A reason against one is a sentence, with its remedy. */
import { statSync } from 'node:fs';
import { findTool } from '../run.ts';

export const deviceMapperControl = '/dev/mapper/control';
export const loopControl = '/dev/loop-control';

const targets = ['snapshot', 'linear', 'zero'];

/** The reason against disks of qcow2, undefined when there is none. */
export function qcow2Obstacle(): string | undefined {
  return findTool('qemu-img') ? undefined : 'there is no qemu-img; apt-get install qemu-utils.';
}

/**
 * The same of device-mapper.
 * @param hasTarget asks the kernel for a kind of target, which may load its module. Without it that is not asked
 */
export function deviceMapperObstacle(hasTarget?: (type: string) => boolean): string | undefined {
  if (process.getuid?.() !== 0) return 'only root makes devices; start it as root.';
  if (!isDevice(deviceMapperControl)) return `there is no ${deviceMapperControl}; modprobe dm_mod.`;
  if (!isDevice(loopControl)) return `there is no ${loopControl}; modprobe loop.`;
  if (!hasTarget) return undefined;
  try {
    const missing = targets.find((type) => !hasTarget(type));
    // Linear devices are part of device-mapper itself.
    return missing && `the kernel has no device-mapper target "${missing}"; modprobe dm_${missing}.`;
  } catch (error) {
    return `${deviceMapperControl} does not answer (${(error as Error).message}); modprobe dm_mod.`;
  }
}

function isDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() === true;
}
