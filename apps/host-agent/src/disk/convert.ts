/** Makes layers of one format layers of another, over the same image: the disk stays the same, byte by byte. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerFormat } from '@perch/protocol';
import type { ToolPlace } from './backend.ts';
import { differing, type LayerCodec, type LayeredState, withRests } from './changes.ts';
import { storeLayers } from './device-mapper/index.ts';
import { qcow2Layers } from './qcow2/index.ts';
import { sealMade } from './sealed.ts';

const codecs: Readonly<Record<LayerFormat, LayerCodec>> = { qcow2: qcow2Layers, 'dm-snapshot': storeLayers };

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
  const { unitBytes, maxListBytes, write } = codecs[format];
  await using changes = await codecs[state.format].read(state, base, bounded, {
    unitBytes,
    admit: ({ reading, changed }) => tool.admit(reading + changed + maxListBytes(sizeBytes)),
  });
  const { file: from, runs } = changes;
  const paced = { file: from, runs: tool.rest ? withRests(runs, tool.rest) : runs };
  const path = join(dir, 'converted');
  await using file = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  await write(file, { file: from, runs: differing(paced, base, signal) }, base, bounded);
  await sealMade(file, path);
  return path;
}
