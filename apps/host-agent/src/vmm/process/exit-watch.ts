/**
 * Notices the end of a process that may not be our child: nobody tells us of it, so we look once a second,
 * and at once when something hints at it (its socket closed, its exit was reported).
 */
import { isAlive, type ProcessRef } from '../../linux/index.ts';

const slowMs = 1000;
/** A socket closes a moment before its process has gone. */
const closeLooksMs = [0, 5, 20, 50, 100, 200];

/** One timer for all watches: with one of each, the process would wake up once a second for each. */
const looks = new Set<() => void>();
let slowTimer: NodeJS.Timeout | undefined;

function lookRegularly(look: () => void): void {
  looks.add(look);
  slowTimer ??= setInterval(() => {
    for (const each of looks) each();
  }, slowMs).unref();
}

function lookNoMore(look: () => void): void {
  looks.delete(look);
  if (looks.size > 0) return;
  clearInterval(slowTimer);
  slowTimer = undefined;
}

export class ExitWatch {
  /** Resolves with the first of the processes that is gone. */
  readonly gone: Promise<ProcessRef>;
  readonly #processes: readonly ProcessRef[];
  readonly #resolve: (process: ProcessRef) => void;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #tick: () => void;
  #over = false;

  /** @param onTick called at each regular look that finds all of them alive */
  constructor(processes: readonly ProcessRef[], onTick: () => void = () => {}) {
    this.#processes = processes;
    const { promise, resolve } = Promise.withResolvers<ProcessRef>();
    this.gone = promise;
    this.#resolve = resolve;
    this.#tick = () => {
      if (this.#look()) onTick();
    };
    lookRegularly(this.#tick);
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Something hints at the end: look closely for a moment. */
  hint(): void {
    if (this.#over) return;
    for (const ms of closeLooksMs) {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        this.#look();
      }, ms);
      this.#timers.add(timer);
    }
  }

  /** Looks no more; `gone` stays open. Safe to repeat. */
  stop(): void {
    this.#over = true;
    lookNoMore(this.#tick);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** @returns whether all processes live */
  #look(): boolean {
    if (this.#over) return false;
    const ended = this.#processes.find((process) => !isAlive(process));
    if (!ended) return true;
    this.stop();
    this.#resolve(ended);
    return false;
  }
}
