/** The lab as it is when it has booted and nobody has used it: what every run goes on from. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measureTscKhz } from '../apps/host-agent/src/linux/index.ts';
import { contentKey, readInputs } from '../images/cache.ts';
import { run } from '../images/commands.ts';
import type { LabDisk } from './arguments.ts';
import { labPart, type Part, withLock } from './cache.ts';
import { bringCheckout, type Checkout } from './checkout.ts';
import { runInLab } from './command.ts';
import { type LabMachine, startLab } from './machine.ts';
import { save } from './migration.ts';
import { type LabParts, root } from './parts.ts';
import recipe from './recipe.json' with { type: 'json' };

export const states = 'lab-states';
const bootMs = 600_000;
const resumeMs = 60_000;

/**
 * The folder of the state of these parts, made first where it is missing.
 * @param options.fresh makes it anew
 */
export async function ensureState(
  cache: string,
  parts: LabParts,
  options: { fresh?: boolean; log: (line: string) => void },
): Promise<Part> {
  const part = { cache, kind: states, key: await stateKey(parts) };
  const make = async (folder: string) => {
    options.log('… lab: booting, usually a minute');
    await provision(folder, parts);
  };
  await labPart(part, make, options.fresh);
  return part;
}

/** The checkout that a lab has when it goes on from a state: that of whoever made it. */
export async function checkoutOf(state: Part): Promise<Checkout> {
  return new Map(JSON.parse(await readFile(fileOf(state, 'checkout.json'), 'utf8')) as [string, string][]);
}

/** A lab that goes on from a state, and leaves it as it is. */
export async function openLab(state: Part, parts: LabParts): Promise<LabMachine> {
  const at = (name: string) => fileOf(state, name);
  const hardware = {
    image: parts.image,
    disks: disksOf(at, parts),
    memory: { path: at('memory'), kept: true },
  };
  // A state that is made anew takes the place of the old one when nobody is about to open that.
  return await withLock(state, () => startLab(hardware, at('devices'), resumeMs));
}

function fileOf({ cache, kind, key }: Part, name: string): string {
  return join(cache, kind, key, name);
}

async function stateKey({ image, packages, artifacts }: LabParts): Promise<string> {
  const sources = ['lab/files', 'lab/recipe.json', 'lab/arguments.ts', 'lab/state.ts'];
  const inputs = new Map<string, string | Uint8Array>(await readInputs(root, sources));
  const below = { image: image.root, packages: packages.path, artifacts: artifacts.path };
  for (const [name, file] of Object.entries(below)) {
    // A file that was built anew has the same key and other content, which must not change below a state.
    const { mtimeMs, ino } = await stat(file);
    inputs.set(name, `${mtimeMs} ${ino}`);
  }
  inputs.set('qemu', await run('qemu-system-x86_64', ['--version']));
  // The counter of the processor begins anew with each boot of this machine.
  inputs.set('boot', await readFile('/proc/sys/kernel/random/boot_id'));
  return contentKey(inputs);
}

async function provision(folder: string, parts: LabParts): Promise<void> {
  const at = (name: string) => join(folder, name);
  const create = ['create', '-q', '-f', 'qcow2'];
  await run('qemu-img', [...create, '-F', 'raw', '-b', parts.image.root, at('root')]);
  for (const disk of ['ext4', 'xfs']) await run('qemu-img', [...create, at(disk), `${recipe.dataGiB}G`]);
  await run('truncate', ['-s', `${recipe.memoryMiB}M`, at('memory')]);
  const hardware = {
    image: parts.image,
    disks: disksOf(at, parts),
    memory: { path: at('memory'), kept: false },
    tscKhz: await measureTscKhz(),
  };
  await using lab = await startLab(hardware, undefined, bootMs);
  const script = await readFile(join(import.meta.dirname, 'files/provision.sh'), 'utf8');
  const work = async () => {
    await runInLab(lab.agent, 'sh', ['-c', script]);
    return await bringCheckout(lab.agent, root, new Map());
  };
  const checkout = await Promise.race([lab.died, work()]);
  await writeFile(at('checkout.json'), JSON.stringify([...checkout]));
  await save(lab.qmp, at('devices'));
}

/** @param at path of a file of the state */
function disksOf(at: (name: string) => string, { packages, artifacts }: LabParts): LabDisk[] {
  return [
    { path: at('root'), format: 'qcow2' },
    { path: packages.path, format: 'raw', readOnly: true },
    { path: artifacts.path, format: 'raw', readOnly: true },
    { path: at('ext4'), format: 'qcow2' },
    { path: at('xfs'), format: 'qcow2' },
  ];
}
