/** One daemon, kept running: started again at once when it ends, then ever slower while it keeps ending. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { exitCannotStart } from '@perch/node-kit';
import { RotatingLog } from './rotating-log.ts';

export interface DaemonOptions {
  name: string;
  command: readonly [file: string, ...args: string[]];
  env: Record<string, string>;
  logFile: string;
  /** A run that lasted this long counts as a good one: the delays start over. Milliseconds. */
  goodRunMs: number;
  /** Told when it ended without being asked to, and is started again. */
  onCrash: (how: string) => void;
}

const restartDelaysMs = [0, 500, 2000, 5000, 15_000];
const maxLogBytes = 32 * 2 ** 20;
const tailLength = 16_384;
/** A daemon that ended this often before it was ready will not become so. */
const crashesAtStart = 3;

export class Daemon {
  readonly #options: DaemonOptions;
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  readonly #stopping = new AbortController();
  #crashes = 0;
  #cannotStart = false;
  #wasReady = false;
  #tail = '';
  #heardAt = 0;

  constructor(options: DaemonOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** It has never worked, and ended too often, or said that starting it again would not help. */
  get hopeless(): boolean {
    return !this.#wasReady && (this.#cannotStart || this.#crashes >= crashesAtStart);
  }

  /** Since it said anything, or was started. */
  get silentMs(): number {
    return performance.now() - this.#heardAt;
  }

  /** Why it could not start, in its own words: the message of its last fatal log line, else the end of its log. */
  get lastWords(): string {
    return fatalIn(this.#tail) ?? this.#tail.trimEnd();
  }

  /** It has worked with these settings: from now on whatever keeps it from starting may pass. */
  markReady(): void {
    this.#wasReady = true;
  }

  start(): void {
    this.#ended = this.#keepRunning();
  }

  /** Resolves when it has ended by itself; it is not started again from now on. */
  async expectEnd(work: () => Promise<void>): Promise<void> {
    this.#stopping.abort();
    await work();
    await this.#ended;
  }

  /** SIGTERM, and SIGKILL when that takes too long. */
  async stop(graceMs = 20_000): Promise<void> {
    this.#stopping.abort();
    this.#child?.kill('SIGTERM');
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), graceMs);
    await this.#ended;
    clearTimeout(timer);
  }

  async #keepRunning(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !(signal.aborted || this.hopeless); ) {
      const startedAt = performance.now();
      const how = await this.#runOnce();
      if (signal.aborted || this.hopeless) return;
      this.#crashes++;
      this.#options.onCrash(how);
      failures = performance.now() - startedAt > this.#options.goodRunMs ? 0 : failures + 1;
      const delayMs = restartDelaysMs[Math.min(failures, restartDelaysMs.length) - 1] ?? 0;
      await sleep(delayMs, undefined, { signal }).catch(() => {});
    }
  }

  async #runOnce(): Promise<string> {
    const { command, env, logFile } = this.#options;
    const log = new RotatingLog(logFile, maxLogBytes);
    const [file, ...args] = command;
    this.#heardAt = performance.now();
    const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#heardAt = performance.now();
        log.write(chunk);
        this.#tail = (this.#tail + chunk.toString('utf8')).slice(-tailLength);
      });
    }
    const { promise, resolve } = Promise.withResolvers<string>();
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => {
      this.#cannotStart = code === exitCannotStart;
      resolve(signal ? `signal ${signal}` : `exit code ${code}`);
    });
    const how = await promise;
    log.close();
    this.#child = undefined;
    return how;
  }
}

/** The message of the last fatal line of a log, undefined where there is none. */
export function fatalIn(log: string): string | undefined {
  return log
    .split('\n')
    .flatMap((line) => parseFatal(line))
    .at(-1);
}

/** The message of a pino line of level 60. */
function parseFatal(line: string): string[] {
  try {
    const { level, err } = JSON.parse(line) as { level?: number; err?: { message?: string } };
    return level === 60 && err?.message ? [err.message] : [];
  } catch {
    return [];
  }
}
