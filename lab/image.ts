/** Kernel, initramfs and root disk of the lab host, built once for the same recipe. */
import { copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { contentKey, readInputs } from '../images/cache.ts';
import { run } from '../images/commands.ts';
import { aptAcquireSettings, debianSources } from '../images/debian.ts';
import { BuildError } from '../images/errors.ts';
import { type CpioEntry, cpioArchive } from '../images/initramfs/cpio.ts';
import { downloadKernel } from '../images/kernel/download.ts';
import { loadOrder, moduleDependencies, moduleName } from '../images/kernel/modules.ts';
import { labPart } from './cache.ts';
import recipe from './recipe.json' with { type: 'json' };

/** Absolute paths; all files are only read. */
export interface LabImage {
  key: string;
  kernel: string;
  initramfs: string;
  /** Sparse ext4 image. */
  root: string;
}

const remedy = 'Check that `apt-get update` reaches a Debian mirror, then run the same command again.';

export async function labImage(root: string, cache: string): Promise<LabImage> {
  const key = contentKey(await readInputs(root, ['lab/recipe.json', 'lab/files', 'lab/image.ts']));
  const folder = await labPart({ cache, kind: 'lab', key }, build);
  return {
    key,
    kernel: join(folder, 'vmlinuz'),
    initramfs: join(folder, 'initramfs.cpio'),
    root: join(folder, 'root.ext4'),
  };
}

async function build(folder: string): Promise<void> {
  const tree = join(folder, 'tree');
  const scratch = join(folder, 'scratch');
  const sources = await sourceLines();
  await makeTree(tree, sources);
  const release = await addKernel(tree, scratch, sources);
  await copyFile(join(tree, 'boot', `vmlinuz-${release}`), join(folder, 'vmlinuz'));
  await writeFile(join(folder, 'initramfs.cpio'), cpioArchive(await initramfs(tree, release)));
  await cp(join(import.meta.dirname, 'files/root'), tree, { recursive: true });
  await run('chroot', [tree, 'systemctl', '--quiet', 'enable', 'perch-lab.service']);
  // Whoever looks after a machine for long would run beside what is measured.
  await run('chroot', [tree, 'systemctl', '--quiet', 'mask', ...recipe.masked]);
  await writeFile(join(tree, 'etc/hostname'), 'lab\n');
  for (const place of ['perch', 'data/ext4', 'data/xfs', 'deps', 'artifacts'])
    await mkdir(join(tree, place), { recursive: true });
  const image = join(folder, 'root.ext4');
  // A lab that dies is thrown away with its disks: nothing of them needs a journal.
  const features = ['-O', '^has_journal', '-E', 'lazy_itable_init=0,root_owner=0:0'];
  await run('mke2fs', [
    ...['-q', '-F', '-t', 'ext4', '-d', tree, '-b', '4096', '-m', '0'],
    ...[...features, image, `${recipe.rootMiB}M`],
  ]);
  await rm(tree, { recursive: true });
  await rm(scratch, { recursive: true });
}

/** The recipe's suite and its backports, on the mirror that has the suite. */
async function sourceLines(): Promise<string[]> {
  const lines = await debianSources(recipe.suite);
  const main = lines.find((line) => line.includes(` ${recipe.suite} main`));
  if (main === undefined) throw new BuildError(`apt knows no mirror of ${recipe.suite}`, remedy);
  return [...lines, main.replace(` ${recipe.suite} main`, ` ${recipe.backports} main`)];
}

async function makeTree(tree: string, sources: readonly string[]): Promise<void> {
  const apt = await aptAcquireSettings();
  const backported = recipe.backportedPackages.map((name) => `${name}/${recipe.backports}`);
  const include = [...recipe.packages, ...backported].join(',');
  const unwanted = ['man', 'info', 'locale', 'doc'].map((name) => `path-exclude=/usr/share/${name}/*`);
  await run(
    'setpriv',
    [
      // A build that is killed leaves no process, and no mount inside a tree that is about to be removed.
      ...['--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['--mount', '--propagation', 'private', '--', 'mmdebstrap', '--mode=root', '--format=directory'],
      ...['--variant=minbase', `--include=${include}`],
      ...unwanted.map((option) => `--dpkgopt=${option}`),
      ...apt.map((setting) => `--aptopt=${setting}`),
      ...[recipe.suite, tree, ...sources],
    ],
    { remedy },
  );
  // The daemon without privileges runs as this user, as on any machine.
  const user = ['--system', '--no-create-home', '--shell', '/usr/sbin/nologin', 'perch'];
  await run('chroot', [tree, 'useradd', ...user]);
}

/** @returns what `uname -r` says in the lab */
async function addKernel(tree: string, scratch: string, sources: readonly string[]): Promise<string> {
  const backports = sources.filter((line) => line.includes(` ${recipe.backports} `));
  const name = await downloadKernel(scratch, recipe.kernel, backports);
  const archive = (await readdir(scratch)).find((file) => file.endsWith('.deb')) ?? '';
  // Debian's trees have /lib as a link, which unpacking a directory of that name would replace.
  const unpacked = join(scratch, 'kernel');
  await run('dpkg-deb', ['-x', join(scratch, archive), unpacked]);
  const release = name.replace('linux-image-', '').replace('-unsigned', '');
  await mkdir(join(tree, 'boot'), { recursive: true });
  await copyFile(join(unpacked, 'boot', `vmlinuz-${release}`), join(tree, 'boot', `vmlinuz-${release}`));
  const modules = join(tree, 'usr/lib/modules');
  await mkdir(modules, { recursive: true });
  await run('cp', ['-a', join(unpacked, 'lib/modules', release), modules]);
  await run('chroot', [tree, 'depmod', release]);
  return release;
}

/** busybox, what the root disk needs of modules, and a script that switches to it. */
async function initramfs(tree: string, release: string): Promise<CpioEntry[]> {
  const modules = await unpackModules(join(tree, 'usr/lib/modules', release));
  const order = [...modules.keys()];
  const file = async (path: string, from: string): Promise<CpioEntry> => ({
    ...{ path, type: 'file', mode: 0o755 },
    content: await readFile(from),
  });
  return [
    ...['bin', 'dev', 'proc', 'root', 'modules'].map(
      (path): CpioEntry => ({ path, type: 'directory', mode: 0o755 }),
    ),
    { path: 'dev/console', type: 'character device', mode: 0o600, major: 5, minor: 1 },
    await file('bin/busybox', join(tree, 'bin/busybox')),
    await file('init', join(import.meta.dirname, 'files/init')),
    { path: 'modules/order', type: 'file', mode: 0o444, content: Buffer.from(`${order.join('\n')}\n`) },
    ...[...modules].map(
      ([name, content]): CpioEntry => ({ path: `modules/${name}.ko`, type: 'file', mode: 0o444, content }),
    ),
  ];
}

/** The modules that are loaded before the root disk is there, unpacked, in the order in which they load. */
async function unpackModules(dir: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    const name = basename(entry.name, '.ko.xz');
    if (name !== entry.name) files.set(moduleName(name), join(entry.parentPath, entry.name));
  }
  const contents = new Map<string, Buffer>();
  const dependencies = new Map<string, string[]>();
  const add = async (name: string): Promise<void> => {
    const packed = files.get(name);
    // A module that is no file is built into the kernel.
    if (packed === undefined || contents.has(name)) return;
    await run('xz', ['-dk', packed]);
    const content = await readFile(packed.slice(0, -'.xz'.length));
    await rm(packed.slice(0, -'.xz'.length));
    contents.set(name, content);
    const needed = moduleDependencies(content).map(moduleName);
    dependencies.set(name, needed);
    for (const other of needed) await add(other);
  };
  for (const name of recipe.initramfsModules) await add(moduleName(name));
  const order = loadOrder(recipe.initramfsModules.map(moduleName), dependencies);
  return new Map(order.map((name) => [name, contents.get(name) ?? Buffer.alloc(0)]));
}
