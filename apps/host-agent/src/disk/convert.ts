/** Makes layers of one format layers of another, over the same image: the disk stays the same, byte by byte. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerFormat } from '@perch/protocol';
import type { ToolPlace } from './backend.ts';
import { differing, type LayerCodec, type LayeredState } from './changes.ts';
import { storeLayers } from './device-mapper/index.ts';
import { qcow2Layers } from './qcow2/index.ts';
import { sealMade } from './sealed.ts';

const codecs: Readonly<Record<LayerFormat, LayerCodec>> = { qcow2: qcow2Layers, 'dm-snapshot': storeLayers };

/** Bytes on the host that a conversion takes at most. @throws as `convertLayers` */
export async function conversionBytes(
  state: LayeredState,
  format: LayerFormat,
  sizeBytes: number,
): Promise<number> {
  const bytes = await codecs[state.format].room(state, sizeBytes, codecs[format].unitBytes);
  // Tables and lists beside the data: less than a hundredth, and a few clusters for each half GiB of the disk.
  return bytes + Math.ceil(bytes / 100) + Math.ceil(sizeBytes / 2 ** 12) + 2 ** 20;
}

/**
 * Makes all layers of a state one of another format. Neither needs a kernel that has it. Its cost follows what the
 * layers hold; parts that are the same as the image's are left out.
 * @returns its path, in the directory of the tool; root-owned, 0444, synced
 * @throws as `DiskBackend.merge`; Error for layers that are none
 */
export async function convertLayers(
  state: LayeredState,
  format: LayerFormat,
  tool: ToolPlace,
): Promise<string> {
  const { dir, sizeBytes } = tool;
  const timeout = AbortSignal.timeout(tool.timeoutMs);
  const signal = tool.signal ? AbortSignal.any([tool.signal, timeout]) : timeout;
  const bounded = { ...tool, signal };
  await using base = await open(state.base, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { size } = await base.stat();
  if (size > sizeBytes) {
    throw new RangeError(`The disk (${sizeBytes} bytes) is smaller than its base (${size} bytes)`);
  }
  await using changes = await codecs[state.format].read(state, base, bounded);
  const path = join(dir, 'converted');
  await using file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  const changed = { file: changes.file, runs: differing(changes, base, signal) };
  await codecs[format].write(file, changed, base, bounded);
  await sealMade(file, path);
  return path;
}
