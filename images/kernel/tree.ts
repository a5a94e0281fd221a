/** Modules as files: those of an unpacked kernel package, and those of them that a guest gets. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { constants, zstdCompressSync } from 'node:zlib';
import { run } from '../commands.ts';
import { BuildError } from '../errors.ts';
import { loadOrder, moduleDependencies, moduleName } from './modules.ts';

/** All modules of a kernel, by name. */
export interface ModuleTree {
  /** `lib/modules/{release}` of the package. */
  folder: string;
  /** Paths below `folder`. */
  files: ReadonlyMap<string, string>;
  /** Names of what needs no loading. */
  builtin: ReadonlySet<string>;
}

export async function readModuleTree(folder: string): Promise<ModuleTree> {
  const files = new Map<string, string>();
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const name = basename(entry.name, '.ko');
    if (name !== entry.name)
      files.set(moduleName(name), relative(folder, join(entry.parentPath, entry.name)));
  }
  const builtin = await readFile(join(folder, 'modules.builtin'), 'utf8');
  return {
    folder,
    files,
    builtin: new Set(builtin.split('\n').map((line) => moduleName(basename(line, '.ko')))),
  };
}

/** Copies modules, and those that they depend on, into one folder, with the `order` in which they load. */
export async function copyInOrder(tree: ModuleTree, names: readonly string[], target: string): Promise<void> {
  await mkdir(target);
  const wanted = names.map(moduleName);
  const { contents, dependencies } = await withDependencies(tree, wanted);
  const order = loadOrder(wanted, dependencies);
  for (const name of order) await writeFile(join(target, `${name}.ko`), contents.get(name) ?? '');
  await writeFile(join(target, 'order'), order.map((name) => `${name}\n`).join(''));
}

/**
 * Copies modules, and those that they depend on, to where they lie in the package, with the indexes by which
 * `modprobe` and the kernel's own requests find them. They are compressed, since they lie in the guest's memory.
 * @param starts of paths below `kernel/`
 * @param target `lib/modules/{release}` below some root
 */
export async function copyOnDemand(
  tree: ModuleTree,
  starts: readonly string[],
  target: string,
): Promise<void> {
  const wanted = starts.flatMap((start) => {
    const found = [...tree.files].filter(([, path]) => path.startsWith(`kernel/${start}`));
    if (found.length === 0) throw unknownModule(start);
    return found.map(([name]) => name);
  });
  const { contents } = await withDependencies(tree, wanted);
  for (const [name, content] of contents) {
    const file = join(target, `${tree.files.get(name)}.zst`);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, zstdCompressSync(content, { params: { [constants.ZSTD_c_compressionLevel]: 19 } }));
  }
  for (const index of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo']) {
    await writeFile(join(target, index), await readFile(join(tree.folder, index)));
  }
  const remedy = 'Install kmod (apt-get install kmod), then run `npm run setup` again.';
  await run('depmod', ['--basedir', join(target, '../../..'), basename(target)], { remedy });
}

async function withDependencies({ folder, files, builtin }: ModuleTree, wanted: readonly string[]) {
  const contents = new Map<string, Buffer>();
  const dependencies = new Map<string, string[]>();
  const add = async (name: string): Promise<void> => {
    if (builtin.has(name) || contents.has(name)) return;
    const file = files.get(name);
    if (file === undefined) throw unknownModule(name);
    const content = await readFile(join(folder, file));
    contents.set(name, content);
    dependencies.set(name, moduleDependencies(content).map(moduleName));
    for (const other of dependencies.get(name) ?? []) await add(other);
  };
  for (const name of wanted) await add(name);
  return { contents, dependencies };
}

function unknownModule(name: string): BuildError {
  return new BuildError(`this kernel has no module ${name}`, 'Change images/kernel/recipe.json.');
}
