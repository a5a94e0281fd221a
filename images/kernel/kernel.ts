import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, contentKey, readInputs } from '../cache.ts';
import { run } from '../commands.ts';
import { debianSources } from '../debian.ts';
import { downloadKernel } from './download.ts';
import recipe from './recipe.json' with { type: 'json' };
import { copyInOrder, copyOnDemand, readModuleTree } from './tree.ts';
import { extractVmlinux } from './vmlinux.ts';

/** The facts of a built kernel; `kernel.json` in its folder. */
export type KernelInfo = {
  /** Versioned Debian package, such as `linux-image-6.1.0-56-cloud-amd64`. */
  package: string;
  /** The answer of `uname -r` in the guest. */
  release: string;
  /** File of the kernel in the folder. */
  file: 'vmlinux' | 'vmlinuz';
};

export async function kernelKey(root: string): Promise<string> {
  return contentKey(await readInputs(root, ['images/kernel']));
}

/**
 * Folder with `kernel.json`, the kernel, its `config`, the modules that a boot needs as `modules/*.ko` with
 * `modules/order`, and those for later in `on-demand/`, as they lie below `/` of a guest.
 */
export async function buildKernel(root: string, cache: string, replace = false): Promise<string> {
  return await cached(cache, 'kernel', await kernelKey(root), fetchKernel, replace);
}

export async function readKernelInfo(folder: string): Promise<KernelInfo> {
  return JSON.parse(await readFile(join(folder, 'kernel.json'), 'utf8'));
}

async function fetchKernel(folder: string): Promise<void> {
  const scratch = join(folder, 'scratch');
  const sources = await debianSources(recipe.suite);
  const packageName = await downloadKernel(scratch, recipe.package, sources);
  const tree = join(scratch, 'tree');
  const archive = (await readdir(scratch)).find((name) => name.endsWith('.deb'));
  await run('dpkg-deb', ['-x', join(scratch, archive ?? ''), tree]);

  const release = packageName.replace('linux-image-', '');
  const vmlinuz = await readFile(join(tree, 'boot', `vmlinuz-${release}`));
  const vmlinux = extractVmlinux(vmlinuz);
  const file = vmlinux === undefined ? 'vmlinuz' : 'vmlinux';
  await writeFile(join(folder, file), vmlinux ?? vmlinuz, { mode: 0o444 });
  await writeFile(join(folder, 'config'), await readFile(join(tree, 'boot', `config-${release}`)));
  const modules = await readModuleTree(join(tree, 'lib/modules', release));
  await copyInOrder(modules, recipe.boot, join(folder, 'modules'));
  await copyOnDemand(modules, recipe.on_demand, join(folder, 'on-demand/lib/modules', release));
  const info: KernelInfo = { package: packageName, release, file };
  await writeFile(join(folder, 'kernel.json'), `${JSON.stringify(info, null, 2)}\n`);
  await run('rm', ['-rf', scratch]);
}
