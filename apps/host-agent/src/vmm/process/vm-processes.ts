/**
 * The processes of one VM: its monitor, and what serves that. They live and end together, the end of any of them is
 * the end of the VM.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { endProcess, isAlive, type ProcessRef } from '../../linux/index.ts';
import { readLogTail } from './directory.ts';
import { type ExitStatus, exitReason } from './exit-reason.ts';
import { ExitWatch } from './exit-watch.ts';
import type { VmCgroup } from './limits.ts';

export interface VmProcess {
  /** As a sentence begins with it: `The VM monitor`. */
  name: string;
  process: ProcessRef;
  /** When we started it. */
  child?: ChildProcess | undefined;
  /** What its exit with 0 says of a guest that said nothing, as a sentence. */
  endsWell?: string | undefined;
  /** It ends by itself, and well, as soon as another of them does: that one is told of. */
  follows?: boolean;
}

export interface VmProcessesOptions {
  /** At least one, in the order in which they are ended. */
  processes: readonly VmProcess[];
  /** The VM's directory, where their log is. */
  dir: string;
  /** Holds all of them, and goes with them. */
  cgroup?: VmCgroup | undefined;
  /** Told at each regular look that finds all of them alive. */
  onTick: () => void;
  /** Told once, at the end. @returns how the guest ended by itself, if it did: a sentence. Never rejects */
  onEnd: () => string | undefined | Promise<string | undefined>;
  log: Logger;
}

/** A connection that breaks because a process ends does so a moment before the end shows. */
const exitFollowsMs = 500;
const followerLooksMs = 10;

export class VmProcesses {
  readonly refs: readonly ProcessRef[];
  /** Resolves once all of them are gone, with the reason. Never rejects. */
  readonly exited: Promise<string>;
  /** Aborts as soon as one of them is gone, for work that would wait in vain. */
  readonly gone: AbortSignal;
  readonly #options: VmProcessesOptions;
  readonly #watch: ExitWatch;
  readonly #statuses = new Map<VmProcess, ExitStatus>();
  #killed = false;

  constructor(options: VmProcessesOptions) {
    this.#options = options;
    this.refs = options.processes.map(({ process }) => process);
    this.#watch = new ExitWatch(this.refs, options.onTick);
    this.exited = this.#watch.gone.then((first) => this.#conclude(first));
    const gone = new AbortController();
    this.gone = gone.signal;
    void this.#watch.gone.then(() => gone.abort(new Error('The VM monitor is gone')));
    for (const one of options.processes) {
      const { child } = one;
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        this.#statuses.set(one, { code, signal });
        this.#watch.hint();
      };
      child?.once('exit', end);
      // The end of one that was started before another may have been told already.
      if (child && (child.exitCode !== null || child.signalCode !== null))
        end(child.exitCode, child.signalCode);
    }
  }

  /** Whether the end was noticed, or nobody looks any more. */
  get isOver(): boolean {
    return this.#watch.isOver;
  }

  /** Something hints at the end. */
  hint(): void {
    this.#watch.hint();
  }

  /**
   * Waits for something that only living processes do. @throws with the reason of their exit rather than
   * with that of a connection which broke because of it
   */
  async whileAlive<T>(work: Promise<T>): Promise<T> {
    const exit = this.exited.then((reason) => Promise.reject(new Error(reason)));
    try {
      return await Promise.race([work, exit]);
    } catch (error) {
      await Promise.race([exit, sleep(exitFollowsMs)]);
      throw error;
    }
  }

  /** Ends all of them, because Perch wants it. Safe to repeat. @throws when one is still there after 10 s */
  async kill(): Promise<void> {
    // After release() nobody watches, and `exited` stays open.
    const released = this.#watch.isOver;
    this.#killed ||= !released;
    await this.end();
    if (released) await this.#removeCgroup();
    else await this.exited;
  }

  /** Ends all of them, as if they did by themselves. @throws as `kill` */
  async end(): Promise<void> {
    for (const process of this.refs) await endProcess(process);
    this.#watch.hint();
  }

  /** Looks after them no more. */
  release(): void {
    this.#watch.stop();
    for (const { child } of this.#options.processes) child?.removeAllListeners('exit');
  }

  /** Nothing in here may fail: the sentence is all that is wanted. */
  async #conclude(first: ProcessRef): Promise<string> {
    const { processes, dir, cgroup, onEnd, log } = this.#options;
    const guest = await onEnd();
    const ended = await this.#cause(processes.find(({ process }) => process === first) as VmProcess);
    await this.end().catch((err: unknown) => log.error({ err }, 'a process of a VM that ended remains'));
    const [said, oomKills] = await Promise.all([readLogTail(dir), cgroup?.oomKills(), this.#reaped(ended)]);
    await this.#removeCgroup();
    const status = this.#statuses.get(ended);
    const well = status?.code === 0 ? ended.endsWell : undefined;
    return exitReason({
      ...{ killed: this.#killed, guest: guest ?? well, process: ended.name, status, log: said },
      oomKills: oomKills ?? 0,
    });
  }

  /** The process whose end is that of the others. */
  async #cause(first: VmProcess): Promise<VmProcess> {
    if (!first.follows) return first;
    await this.#reaped(first);
    const status = this.#statuses.get(first);
    if (status && status.code !== 0) return first;
    const leader = this.#options.processes.find(({ follows }) => !follows);
    // It may be on its way: what it had open is closed before it counts as gone.
    for (const until = performance.now() + exitFollowsMs; leader && performance.now() < until; ) {
      if (!isAlive(leader.process)) return leader;
      await sleep(followerLooksMs);
    }
    return first;
  }

  /** /proc may show the end of a child before Node tells its status. */
  async #reaped(one: VmProcess): Promise<void> {
    const { child } = one;
    if (!child || this.#statuses.has(one)) return;
    await Promise.race([new Promise((resolve) => child.once('exit', resolve)), sleep(exitFollowsMs)]);
  }

  async #removeCgroup(): Promise<void> {
    const { cgroup, log } = this.#options;
    await cgroup
      ?.remove()
      .catch((err: unknown) => log.error({ err, cgroup: cgroup.path }, 'a cgroup is left'));
  }
}
