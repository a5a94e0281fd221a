/**
 * Finds out what this machine can run, by running it. That /dev/kvm opens says little: on some virtual
 * machines a guest then hangs for ever, at full load and without a word.
 */
import { readFile, stat } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { type FoundFirecracker, findFirecracker, findQemu, kvmObstacle } from '@perch/node-kit';
import { type Accelerator, type MonitorChoice, type MonitorKind, monitorChoices } from '@perch/protocol';
import type { Logger } from 'pino';
import { firecrackerRunsGuest } from '../firecracker/index.ts';
import { kvmRunsGuest } from '../qemu/index.ts';
import { type Kept, readAnswer, writeAnswer } from './cache.ts';

export interface ProbeOptions {
  /** A guest's kernel and initramfs; ours, 0444, on the file system of `cacheFiles`. */
  kernel: string;
  initramfs: string;
  /** JSON file that keeps the answer of each kind until something that it depends on changes. */
  cacheFiles: Readonly<Record<MonitorKind, string>>;
  /** Skips the question. */
  force?: MonitorChoice | undefined;
  /** The only kind that the host can have. */
  only?: { kind: MonitorKind; why: string } | undefined;
  log: Logger;
}

export interface MonitorProbe {
  choice: MonitorChoice;
  /** '' when there is none. */
  version: string;
  /** The finding, for a person. */
  why: string;
  /** The problems that keep a guest from being started, each with its remedy. */
  problems: string[];
}

/**
 * Firecracker where its programs are there and run a guest, else QEMU, under KVM where that runs one. Never rejects for
 * what a machine lacks: that is its answer.
 * @throws RunError when a program was asked and could not end, which says nothing about the machine
 */
export async function probeMonitor(options: ProbeOptions): Promise<MonitorProbe> {
  const { force, only } = options;
  if (force === 'firecracker') return await onlyFirecracker('PERCH_VMM says so');
  if (!force && only?.kind === 'firecracker') return await onlyFirecracker(only.why);
  // Asked at every start, since a device may appear later. Without it nothing more is asked.
  const obstacle = force ? undefined : await kvmObstacle();
  const firecracker = force || obstacle !== undefined ? undefined : await tryFirecracker(options);
  if (firecracker?.runs) return firecracker.probe;
  const { version, problem } = await findQemu();
  const { accelerator, why } = await chooseAccelerator(options, version, obstacle);
  const problems = problem ? [`${problem.what}: ${problem.remedy}`] : [];
  const because = firecracker ? `${why}; not Firecracker, since ${firecracker.why}` : why;
  return { choice: `qemu-${accelerator}`, version, why: because, problems };
}

async function onlyFirecracker(why: string): Promise<MonitorProbe> {
  const { version, problem } = await findFirecracker();
  const obstacle = await kvmObstacle();
  const problems = [
    ...(problem ? [`${problem.what}: ${problem.remedy}`] : []),
    ...(obstacle === undefined ? [] : [`${obstacle}, and Firecracker runs no guest without: ${useKvm}`]),
  ];
  return { choice: 'firecracker', version, why, problems };
}

const useKvm = 'use a machine with virtualization, or start with PERCH_VMM=qemu-tcg';

type Tried = { runs: true; probe: MonitorProbe } | { runs: false; why: string };

/** Nothing is said where there is no part of it: most machines have none. */
async function tryFirecracker(options: ProbeOptions): Promise<Tried | undefined> {
  const { version, programs, problem } = await findFirecracker();
  if (programs.firecracker === '') return undefined;
  if (problem) return { runs: false, why: problem.what };
  if (options.only) return { runs: false, why: options.only.why };
  const key = await dependsOn(options, { firecracker: `${version} ${Object.values(programs).join(' ')}` });
  const { runs, why } = await known(options.cacheFiles.firecracker, key, () =>
    askFirecracker(options, programs),
  );
  return runs ? { runs, probe: { choice: 'firecracker', version, why, problems: [] } } : { runs, why };
}

async function askFirecracker(
  { kernel, initramfs, cacheFiles, log }: ProbeOptions,
  programs: FoundFirecracker['programs'],
): Promise<Kept> {
  let why = '';
  for (const attempt of [1, 2]) {
    try {
      const trial = { kernel, initramfs, programs, near: cacheFiles.firecracker };
      const shortfall = await firecrackerRunsGuest(trial);
      if (shortfall === undefined)
        return { runs: true, why: 'a guest of Firecracker reached its userspace under KVM' };
      why = shortfall.why;
      if (!shortfall.ended) break;
    } catch (error) {
      why = `no guest of it starts: ${error instanceof Error ? error.message : String(error)}`;
    }
    log.info({ attempt, why }, 'Firecracker was tried');
  }
  return { runs: false, why };
}

interface Answer {
  accelerator: Accelerator;
  why: string;
}

async function chooseAccelerator(
  options: ProbeOptions,
  version: string,
  obstacle: string | undefined,
): Promise<Answer> {
  if (options.force)
    return { accelerator: monitorChoices[options.force].accelerator, why: 'PERCH_VMM says so' };
  if (obstacle !== undefined) return { accelerator: 'tcg', why: obstacle };
  if (version === '') return { accelerator: 'tcg', why: 'there is no QEMU to try KVM with' };
  const key = await dependsOn(options, { qemu: version });
  const { runs, why } = await known(options.cacheFiles.qemu, key, () => askGuest(options));
  return { accelerator: runs ? 'kvm' : 'tcg', why };
}

async function askGuest({ kernel, initramfs, cacheFiles, log }: ProbeOptions): Promise<Kept> {
  try {
    const silence = await kvmRunsGuest({ kernel, initramfs, near: cacheFiles.qemu, log });
    return silence === undefined
      ? { runs: true, why: 'a guest reached its userspace under KVM' }
      : { runs: false, why: `/dev/kvm opens, but ${silence}` };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { runs: false, why: `/dev/kvm opens, but no guest starts: ${why}` };
  }
}

/** The kept answer, or a new one. */
async function known(file: string, key: Record<string, string>, ask: () => Promise<Kept>): Promise<Kept> {
  const kept = await readAnswer(file, key);
  if (kept) return kept;
  const answer = await ask();
  await writeAnswer(file, key, answer);
  return answer;
}

/** Everything that the answer follows from. The boot id: a hypervisor may have changed under us. */
async function dependsOn(
  { kernel }: ProbeOptions,
  monitor: Record<string, string>,
): Promise<Record<string, string>> {
  const guest = await stat(kernel);
  return {
    ...monitor,
    guestKernel: `${guest.dev}:${guest.ino}:${guest.size}:${guest.mtimeMs}`,
    hostKernel: release(),
    cpu: cpus()[0]?.model ?? '',
    boot: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
  };
}
