/** The lab as it is when it has booted and nobody has used it: what every run goes on from. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { measureTscKhz } from '../apps/host-agent/src/linux/index.ts';
import { cached, contentKey, readInputs } from '../images/cache.ts';
import { run } from '../images/commands.ts';
import type { LabDisk } from './arguments.ts';
import { runInLab } from './command.ts';
import { type LabMachine, save, startLab } from './machine.ts';
import { type LabParts, root } from './parts.ts';
import recipe from './recipe.json' with { type: 'json' };

/** Files of one lab, which go with it. */
interface Writable {
  root: string;
  ext4: string;
  xfs: string;
}

export const states = 'lab-states';
/** Each takes a gigabyte or two. */
const kept = 3;
const bootMs = 600_000;
const resumeMs = 60_000;

/**
 * A lab that goes on from the state, made first where there is none.
 * @param options.fresh makes the state anew
 */
export async function openLab(
  cache: string,
  parts: LabParts,
  options: { fresh: boolean; log: (line: string) => void },
): Promise<LabMachine> {
  const tscKhz = await measureTscKhz();
  const key = await stateKey(parts);
  const make = async (folder: string) => {
    options.log('… lab: booting, usually a minute');
    await provision(folder, parts, tscKhz);
  };
  const folder = await cached(cache, states, key, make, options.fresh);
  await keepNewest(join(cache, states), key);
  const dir = await mkdtemp(join(tmpdir(), 'perch-lab-'));
  try {
    const writable = { root: join(dir, 'root'), ext4: join(dir, 'ext4'), xfs: join(dir, 'xfs') };
    for (const name of ['root', 'ext4', 'xfs'] as const)
      await overlay(writable[name], join(folder, `${name}.qcow2`), 'qcow2');
    return await startLab(
      {
        image: parts.image,
        disks: disksOf(writable, parts),
        memory: { path: join(folder, 'memory'), kept: true },
        tscKhz,
        console: join(dir, 'console'),
      },
      join(folder, 'devices'),
      resumeMs,
    );
  } finally {
    // QEMU has them open: whatever ends it, they go with it.
    await rm(dir, { recursive: true, force: true });
  }
}

/** Removes all but the states that were used last. A lab that goes on from one has its files open, and keeps them. */
async function keepNewest(dir: string, used: string): Promise<void> {
  const now = new Date();
  await utimes(join(dir, used), now, now);
  const names = (await readdir(dir)).filter((name) => !name.startsWith('.'));
  const times = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(join(dir, name))).mtimeMs })),
  );
  const old = times.sort((a, b) => b.at - a.at).slice(kept);
  for (const { name } of old) await rm(join(dir, name), { recursive: true, force: true });
}

async function stateKey({ image, packages, artifacts }: LabParts): Promise<string> {
  const inputs = new Map<string, string | Uint8Array>(await readInputs(root, ['lab']));
  const qemu = await run('qemu-system-x86_64', ['--version']);
  // The counter of the processor begins anew with each boot of the machine.
  const boot = await readFile('/proc/sys/kernel/random/boot_id');
  for (const [name, value] of Object.entries({ image, packages, artifacts })) inputs.set(name, value.key);
  return contentKey(inputs.set('qemu', qemu).set('boot', boot));
}

async function provision(folder: string, parts: LabParts, tscKhz: number | undefined): Promise<void> {
  const at = (name: string) => join(folder, name);
  const writable = { root: at('root.qcow2'), ext4: at('ext4.qcow2'), xfs: at('xfs.qcow2') };
  await overlay(writable.root, parts.image.root, 'raw');
  for (const disk of [writable.ext4, writable.xfs])
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk, `${recipe.dataGiB}G`]);
  await run('truncate', ['-s', `${recipe.memoryMiB}M`, at('memory')]);
  await mkdir(at('run'));
  await using lab = await startLab(
    {
      image: parts.image,
      disks: disksOf(writable, parts),
      memory: { path: at('memory'), kept: false },
      tscKhz,
      console: at('run/console'),
    },
    undefined,
    bootMs,
  );
  const script = await readFile(join(import.meta.dirname, 'files/provision.sh'), 'utf8');
  await Promise.race([lab.died, runInLab(lab.agent, 'sh', ['-c', script])]);
  await save(lab.qmp, at('devices'));
}

function disksOf(writable: Writable, { packages, artifacts }: LabParts): LabDisk[] {
  const [root, ext4, xfs] = [writable.root, writable.ext4, writable.xfs].map(
    (path): LabDisk => ({ path, format: 'qcow2' }),
  ) as [LabDisk, LabDisk, LabDisk];
  const [vdb, vdc] = [packages.path, artifacts.path].map(
    (path): LabDisk => ({ path, format: 'raw', readOnly: true }),
  ) as [LabDisk, LabDisk];
  return [root, vdb, vdc, ext4, xfs];
}

async function overlay(path: string, below: string, format: 'raw' | 'qcow2'): Promise<void> {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', format, '-b', below, path]);
}
