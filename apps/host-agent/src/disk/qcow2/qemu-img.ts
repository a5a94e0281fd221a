/**
 * Runs `qemu-img` over layers that guests have written: as a user that owns nothing else, in a directory with links
 * of just those files, told the chain instead of following their headers.
 */
import { once } from 'node:events';
import { link, open } from 'node:fs/promises';
import { join } from 'node:path';
import { endProcess, processesOfUid, readProcess, spawnConfined } from '../../linux/index.ts';
import { type ToolPlace, UserStillRuns } from '../backend.ts';
import { type DiskState, imageOf, layersOf } from '../disk.ts';

export const baseName = 'base.ext4';
const layerName = (index: number) => `layer-${index}.qcow2`;
/** strerror(ENOSPC) and strerror(EFBIG) in the locale that tools run in. */
const noSpace = 'No space left on device';
const tooLarge = 'File too large';
/** Before a tool that lets everything else go first. */
export const unhurried = ['nice', '-n', '19'];
/** qemu-img has a thread for each request under way. */
const maxTasks = 72;

/** @throws UserStillRuns */
async function endUser(uid: number): Promise<void> {
  try {
    for (const left of processesOfUid(uid)) await endProcess(left);
  } catch (cause) {
    throw new UserStillRuns(uid, { cause });
  }
}

export async function linkChain(state: DiskState, dir: string): Promise<void> {
  await link(imageOf(state), join(dir, baseName));
  await linkLayers(state, dir);
}

export async function linkLayers(state: DiskState, dir: string): Promise<void> {
  for (const [i, layer] of layersOf(state).entries()) await link(layer, join(dir, layerName(i)));
}

/** A node of the block layer, as QEMU is told of it. */
export type BlockNode = Record<string, unknown>;

/** An image, as seen from the directory. */
export const imageNode = (path: string) => node('raw', path);

/** The layers over the base, the uppermost outside. */
export function chainOf(count: number, base: BlockNode = imageNode(baseName)): BlockNode {
  let below = base;
  for (let i = 0; i < count; i++) below = { ...node('qcow2', layerName(i)), backing: below };
  return below;
}

function node(driver: string, filename: string): BlockNode {
  return { driver, file: { driver: 'file', filename, locking: 'off', 'read-only': true }, 'read-only': true };
}

export function asFilename(image: BlockNode): string {
  return `json:${JSON.stringify(image)}`;
}

/** The command that writes all of a chain into a raw file that is there, of the size of the disk, and all zeros. */
export function convertToRaw(chain: BlockNode, target: string): string[] {
  const options = ['-n', '--target-is-zero', '-W', '-O', 'raw'];
  return ['qemu-img', 'convert', ...options, asFilename(chain), target];
}

/**
 * When it has settled, no process of the user is left, unless it says so.
 * @param what it does, for the error; once in a directory
 * @param command `qemu-img` and its arguments
 * @param stdout descriptor of a file for what it prints
 * @throws Error with what it said, `code` ENOSPC when the disk was full; what `signal` was aborted with; UserStillRuns
 */
export async function runQemuImg(
  { dir, uid, timeoutMs, signal }: ToolPlace,
  maxFileBytes: number,
  what: string,
  command: readonly string[],
  stdout?: number,
): Promise<void> {
  if (uid === process.getuid?.()) throw new Error('qemu-img reads the disks of guests as a user of its own');
  await using log = await open(join(dir, `${what}.log`), 'wx+', 0o600);
  const to = { uid, maxFileBytes, maxTasks, cwd: dir, stderr: log.fd, stdout, descriptors: [] };
  // In one breath with the listener below: a signal tells of its end only once.
  signal?.throwIfAborted();
  const child = spawnConfined(to, command);
  const exited = once(child, 'exit');
  const info = child.pid === undefined ? undefined : readProcess(child.pid);
  const stuck = Promise.withResolvers<never>();
  const end = () => info && void endProcess(info).catch(stuck.reject);
  const timer = setTimeout(end, timeoutMs);
  signal?.addEventListener('abort', end, { once: true });
  let outcome: [number | null, string | null];
  try {
    outcome = (await Promise.race([exited, stuck.promise])) as typeof outcome;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
    // Of a tool that a layer has taken over something may live on, and write to what becomes root's.
    await endUser(uid);
  }
  signal?.throwIfAborted();
  const [code, killedBy] = outcome;
  if (code === 0) return;
  const said = Buffer.alloc(1024);
  const { bytesRead } = await log.read(said, 0, said.length, 0);
  const why = said.subarray(0, bytesRead).toString().trim();
  if (killedBy === 'SIGXFSZ' || why.includes(tooLarge)) {
    throw new Error(`The disk cannot be ${what}: its tool was to write no more than ${maxFileBytes} bytes`);
  }
  const error = new Error(`The disk cannot be ${what} (${killedBy ?? `exit code ${code}`}): ${why}`);
  throw why.includes(noSpace) ? Object.assign(error, { code: 'ENOSPC' }) : error;
}
