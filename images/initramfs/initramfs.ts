import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, contentKey, readInputs } from '../cache.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';

const MOUNT_POINTS = ['dev', 'proc', 'sys', 'newroot'];

export async function initramfsKey(root: string, agentKey: string, kernelKey: string): Promise<string> {
  const inputs = new Map<string, string | Uint8Array>(await readInputs(root, ['images/initramfs']));
  return contentKey(inputs.set('agent', agentKey).set('kernel', kernelKey));
}

/** Folder with `initramfs.cpio`, which is not compressed: unpacking under emulation costs more than reading. */
export async function buildInitramfs(
  cache: string,
  key: string,
  agent: string,
  kernel: string,
): Promise<string> {
  return await cached(cache, 'initramfs', key, async (folder) => {
    const archive = cpioArchive(await initramfsEntries(agent, join(kernel, 'modules')));
    await writeFile(join(folder, 'initramfs.cpio'), archive, { mode: 0o444 });
  });
}

/** The guest agent as `/init`, the modules with the order in which it loads them, and places to mount on. */
async function initramfsEntries(agent: string, modules: string): Promise<CpioEntry[]> {
  const order = (await readFile(join(modules, 'order'), 'utf8'))
    .trim()
    .split('\n')
    .map((name) => `${name}.ko`);
  const entries: CpioEntry[] = [
    ...MOUNT_POINTS.map((path): CpioEntry => ({ path, type: 'directory', mode: 0o755 })),
    { path: 'dev/console', type: 'character device', mode: 0o600, major: 5, minor: 1 },
    { path: 'init', type: 'file', mode: 0o755, content: await readFile(agent) },
    { path: 'modules', type: 'directory', mode: 0o755 },
    { path: 'modules/order', type: 'file', mode: 0o444, content: Buffer.from(`${order.join('\n')}\n`) },
  ];
  for (const file of order) {
    entries.push({
      path: `modules/${file}`,
      type: 'file',
      mode: 0o444,
      content: await readFile(join(modules, file)),
    });
  }
  return entries;
}
