/** One guest that is started only to see whether it starts: in a jail, without disk and network. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { quoted } from '@perch/node-kit';
import { endProcess } from '../../linux/index.ts';
import {
  ConsoleTail,
  createLog,
  findProcess,
  linkReadable,
  readLogTail,
  type Spawned,
} from '../process/index.ts';
import { FirecrackerApi } from './api.ts';
import { bootArguments } from './boot-arguments.ts';
import { drainFifo, makeConsole, openConsole } from './console.ts';
import { jailed, jailRoot } from './jail.ts';
import { launch, type Programs } from './launch.ts';
import { kernelRequests, start } from './requests.ts';

export interface Patience {
  /** Without a byte on the console. */
  silenceMs: number;
  /** With whatever is there. */
  allMs: number;
}

/** What a guest did instead of reaching its userspace. */
export interface Shortfall {
  /** It can be tried again: one boot in some hundred ends at once, without a reason. */
  ended: boolean;
  why: string;
}

export interface TrialSpec {
  programs: Programs;
  /** A guest's kernel and initramfs; ours, 0444, on the file system of `near`. */
  kernel: string;
  initramfs: string;
  /** The trial's directory is made beside this path. */
  near: string;
}

/** Below those of VMs, and nobody else's: the trial has no disk and no network, and its kernel and initramfs are our own. */
const uid = 2 ** 30 - 1;
const vcpus = 1;
const memoryMb = 128;
const consoleBytes = 64 * 1024;
const lookMs = 20;
/**
 * A guest that hangs says nothing for ever. One that runs is in userspace after a second; under emulated virtualization
 * beside other work its kernel takes half a minute to its first word, and says something every few seconds after it.
 */
const defaultPatience: Patience = { silenceMs: 45_000, allMs: 90_000 };
/** The kernel's line before it starts the first program (init/main.c). */
const userspace = 'as init process';

/**
 * @returns undefined when the guest reached its userspace
 * @throws when none could be started
 */
export async function firecrackerRunsGuest(
  spec: TrialSpec,
  patience = defaultPatience,
): Promise<Shortfall | undefined> {
  await sweepTrials(spec.near);
  const dir = await mkdtemp(`${spec.near}-trial-`);
  let spawned: Spawned | undefined;
  try {
    const root = jailRoot({ dir, id });
    await mkdir(root, { recursive: true, mode: 0o700 });
    await linkReadable(spec.kernel, join(root, jailed.kernel));
    await linkReadable(spec.initramfs, join(root, jailed.initramfs));
    await using console = await makeConsole(dir);
    // A process that inherits an open file has reads of it wait (libuv, fcntl).
    await using heard = await openConsole(dir);
    await using log = await createLog(dir);
    const streams = { console: console.fd, log: log.fd, maxFileBytes: memoryMb * 2 ** 20 };
    spawned = await launch({ id, dir, uid, vcpus, programs: spec.programs, ...streams });
    const over = new AbortController();
    const ended = endOf(spawned.child, over.signal).then(() => whyEnded(dir));
    // Whoever comes second is heard by nobody.
    const reached = watch(dir, spawned, heard, patience, over.signal);
    for (const one of [ended, reached]) one.catch(() => {});
    try {
      return await Promise.race([ended, reached]);
    } finally {
      over.abort();
    }
  } finally {
    if (spawned) await endProcess(spawned.process);
    await rm(dir, { recursive: true, force: true });
  }
}

/** Of the jail. */
const id = 'trial';

async function endOf(child: ChildProcess, signal: AbortSignal): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit', { signal });
}

async function whyEnded(dir: string): Promise<Shortfall> {
  const said = (await readLogTail(dir)).trim();
  return { ended: true, why: `it ended at once${said === '' ? '' : `: ${quoted(said)}`}` };
}

/** The rest of a trial that crashed in the middle, whose guest would run on. */
async function sweepTrials(near: string): Promise<void> {
  const prefix = `${basename(near)}-trial-`;
  for (const name of await readdir(dirname(near))) {
    if (!name.startsWith(prefix)) continue;
    const dir = join(dirname(near), name);
    const left = findProcess(uid, undefined, jailRoot({ dir, id }));
    if (left) await endProcess(left);
    await rm(dir, { recursive: true, force: true });
  }
}

async function watch(
  dir: string,
  { process }: Spawned,
  console: Awaited<ReturnType<typeof makeConsole>>,
  { silenceMs, allMs }: Patience,
  over: AbortSignal,
): Promise<Shortfall | undefined> {
  const signal = AbortSignal.any([over, AbortSignal.timeout(allMs)]);
  const at = { dir: jailRoot({ dir, id }), name: jailed.api.slice(1), pid: process.pid, uid };
  const tail = new ConsoleTail(consoleBytes);
  const api = await FirecrackerApi.open(at, signal);
  let said = 0;
  let lastWord = 0;
  const hear = (bytes: Buffer) => {
    tail.append(bytes);
    said += bytes.length;
    lastWord = performance.now();
  };
  try {
    const machine = { vcpus, memoryMb, kernelArguments: bootArguments(true) };
    for (const request of [...kernelRequests(machine), start]) await api.send(request, allMs);
    lastWord = performance.now();
    for (; !signal.aborted; await sleep(lookMs)) {
      await drainFifo(console, hear);
      if (tail.last().includes(userspace)) return undefined;
      if (performance.now() - lastWord >= silenceMs) break;
    }
  } finally {
    api.close();
  }
  const silent = ((performance.now() - lastWord) / 1000).toFixed(0);
  const last = tail.last().toString('latin1').trimEnd().split('\n').at(-1) ?? '';
  const all = `${said} bytes on its console${last === '' ? '' : `, at last: ${quoted(last)}`}`;
  const why = `a guest did not reach its userspace, and had said nothing for ${silent} s (${all})`;
  return { ended: false, why };
}
