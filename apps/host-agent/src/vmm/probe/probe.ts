/**
 * Finds out what this machine can run, by running it. That /dev/kvm opens says little: on some virtual
 * machines a guest then hangs for ever, at full load and without a word.
 */
import { readFile, stat } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { findFirecracker, findQemu, kvmObstacle } from '@perch/node-kit';
import { type Accelerator, type MonitorChoice, monitorChoices } from '@perch/protocol';
import type { Logger } from 'pino';
import { kvmRunsGuest } from '../qemu/index.ts';
import { readAnswer, writeAnswer } from './cache.ts';

export interface ProbeOptions {
  /** A guest's kernel and initramfs; ours, 0444, on the file system of `cacheFile`. */
  kernel: string;
  initramfs: string;
  /** JSON file that keeps the answer until something that it depends on changes. */
  cacheFile: string;
  /** Skips the question. */
  force?: MonitorChoice | undefined;
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
 * Never rejects for what a machine lacks: that is its answer.
 * @throws RunError when QEMU was asked and could not end, which says nothing about the machine
 */
export async function probeMonitor(options: ProbeOptions): Promise<MonitorProbe> {
  if (options.force === 'firecracker') return await probeFirecracker();
  const { version, problem } = await findQemu();
  const { accelerator, why } = await chooseAccelerator(options, version);
  const problems = problem ? [`${problem.what}: ${problem.remedy}`] : [];
  return { choice: `qemu-${accelerator}`, version, why, problems };
}

async function probeFirecracker(): Promise<MonitorProbe> {
  const { version, problem } = await findFirecracker();
  const obstacle = await kvmObstacle();
  const problems = [
    ...(problem ? [`${problem.what}: ${problem.remedy}`] : []),
    ...(obstacle === undefined ? [] : [`${obstacle}, and Firecracker runs no guest without: ${useKvm}`]),
  ];
  return { choice: 'firecracker', version, why: 'PERCH_VMM says so', problems };
}

const useKvm = 'use a machine with virtualization, or start without PERCH_VMM=firecracker';

interface Answer {
  accelerator: Accelerator;
  why: string;
}

async function chooseAccelerator(options: ProbeOptions, version: string): Promise<Answer> {
  if (options.force)
    return { accelerator: monitorChoices[options.force].accelerator, why: 'PERCH_VMM says so' };
  // Asked at every start, since a device may appear later.
  const obstacle = await kvmObstacle();
  if (obstacle !== undefined) return { accelerator: 'tcg', why: obstacle };
  if (version === '') return { accelerator: 'tcg', why: 'there is no QEMU to try KVM with' };
  const key = await dependsOn(options, version);
  const known = await readAnswer(options.cacheFile, key);
  if (known) return known;
  const answer = await askGuest(options);
  await writeAnswer(options.cacheFile, key, answer);
  return answer;
}

async function askGuest({ kernel, initramfs, cacheFile, log }: ProbeOptions): Promise<Answer> {
  try {
    const silence = await kvmRunsGuest({ kernel, initramfs, near: cacheFile, log });
    return silence === undefined
      ? { accelerator: 'kvm', why: 'a guest reached its userspace under KVM' }
      : { accelerator: 'tcg', why: `/dev/kvm opens, but ${silence}` };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { accelerator: 'tcg', why: `/dev/kvm opens, but no guest starts: ${why}` };
  }
}

/** Everything that the answer follows from. The boot id: a hypervisor may have changed under us. */
async function dependsOn({ kernel }: ProbeOptions, version: string): Promise<Record<string, string>> {
  const guest = await stat(kernel);
  return {
    qemu: version,
    guestKernel: `${guest.dev}:${guest.ino}:${guest.size}:${guest.mtimeMs}`,
    hostKernel: release(),
    cpu: cpus()[0]?.model ?? '',
    boot: (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim(),
  };
}
