/**
 * Merges a base and its layers into one raw image. The layers are what guests have written, so `qemu-img` reads
 * them as a user that owns nothing else, and is told the chain instead of following their headers.
 */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { link, open } from 'node:fs/promises';
import { join } from 'node:path';
import { endProcess, readProcess, spawnConfined } from '../../linux/index.ts';
import type { FlattenSpec } from '../disk-layer.ts';

const names = { base: 'base.ext4', target: 'flat.ext4', log: 'qemu-img.log' } as const;
const layerName = (index: number) => `layer-${index}.qcow2`;
/** qemu-img has a thread for each request under way. */
const maxTasks = 72;

/** Sparse: its cost follows what is allocated. @returns path of the image, root's and 0444 */
export async function flatten(spec: FlattenSpec): Promise<string> {
  const { dir, uid, base, layers, sizeBytes } = spec;
  await link(base, join(dir, names.base));
  for (const [i, layer] of layers.entries()) await link(layer, join(dir, layerName(i)));
  const path = join(dir, names.target);
  await using target = await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  await target.truncate(sizeBytes);
  await target.chown(uid, uid);
  await convert(spec);
  const stat = await target.stat();
  if (stat.size !== sizeBytes) throw new Error(`The flattened disk has ${stat.size} bytes, not ${sizeBytes}`);
  await target.chown(0, 0);
  await target.chmod(0o444);
  await target.sync();
  return path;
}

async function convert({ dir, uid, layers, sizeBytes, timeoutMs }: FlattenSpec): Promise<void> {
  await using log = await open(join(dir, names.log), 'wx+', 0o600);
  const chain = `json:${JSON.stringify(chainOf(layers.length))}`;
  const child = spawnConfined(
    { uid, maxFileBytes: sizeBytes, maxTasks, cwd: dir, stderr: log.fd, descriptors: [] },
    ['qemu-img', 'convert', '-n', '--target-is-zero', '-W', '-O', 'raw', chain, names.target],
  );
  const exited = once(child, 'exit');
  const info = child.pid === undefined ? undefined : readProcess(child.pid);
  const timer = setTimeout(() => info && void endProcess(info).catch(() => {}), timeoutMs);
  const [code, signal] = (await exited.finally(() => clearTimeout(timer))) as [number | null, string | null];
  if (code === 0) return;
  const said = Buffer.alloc(1024);
  const { bytesRead } = await log.read(said, 0, said.length, 0);
  const why = said.subarray(0, bytesRead).toString().trim();
  throw new Error(`The disk cannot be flattened (${signal ?? `exit code ${code}`}): ${why}`);
}

/** The layers over the base, the uppermost first. */
function chainOf(count: number): object {
  let below: object = file('raw', names.base);
  for (let i = 0; i < count; i++) below = { ...file('qcow2', layerName(i)), backing: below };
  return below;
}

function file(driver: string, filename: string): object {
  return { driver, file: { driver: 'file', filename, locking: 'off', 'read-only': true }, 'read-only': true };
}
