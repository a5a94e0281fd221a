import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
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
    const entries = await initramfsEntries(agent, join(kernel, 'modules'));
    const archive = cpioArchive([...entries, ...(await treeEntries(join(kernel, 'on-demand')))]);
    await writeFile(join(folder, 'initramfs.cpio'), archive, { mode: 0o444 });
  });
}

/** The guest agent as `/init`, the modules of the boot with the order in which it loads them, and places to mount on. */
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

/** All below a folder, from its own files and folders on. */
async function treeEntries(folder: string): Promise<CpioEntry[]> {
  const found = await readdir(folder, { withFileTypes: true, recursive: true });
  const entries = found.map(async (entry): Promise<CpioEntry> => {
    const file = join(entry.parentPath, entry.name);
    const path = relative(folder, file);
    if (entry.isDirectory()) return { path, type: 'directory', mode: 0o755 };
    return { path, type: 'file', mode: 0o444, content: await readFile(file) };
  });
  // By path, so that a folder comes before what it holds, and the archive is the same each time.
  return (await Promise.all(entries)).sort((a, b) => (a.path < b.path ? -1 : 1));
}
