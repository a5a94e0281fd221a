/** The things that a machine needs for disks of device-mapper. */
import { statSync } from 'node:fs';
import { deviceMapperControl, hasDmTarget, loopControl } from '../../linux/index.ts';

const targets = ['snapshot', 'linear', 'zero'];

/** @returns what this machine lacks, with the remedy: a sentence. Undefined when it has all. */
export function deviceMapperLacks(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root makes devices; start it as root.';
  if (!isDevice(deviceMapperControl)) return `there is no ${deviceMapperControl}; modprobe dm_mod.`;
  if (!isDevice(loopControl)) return `there is no ${loopControl}; modprobe loop.`;
  try {
    const missing = targets.find((type) => !hasDmTarget(type));
    // Linear devices are part of device-mapper itself.
    return missing && `the kernel has no device-mapper target "${missing}"; modprobe dm_${missing}.`;
  } catch (error) {
    return `${deviceMapperControl} does not answer (${(error as Error).message}); modprobe dm_mod.`;
  }
}

function isDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() === true;
}
