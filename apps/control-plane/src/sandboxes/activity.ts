import type { Logger } from 'pino';
import type { Life } from './life.ts';
import type { SandboxRepository } from './repository.ts';

const writeEveryMs = 1_000;

/**
 * Use of sandboxes. In mode `idle` it moves the end of life, in memory at once and in the database at most
 * once a second, for all sandboxes in one statement.
 */
export class ActivityTracker implements AsyncDisposable {
  readonly #repository: SandboxRepository;
  readonly #log: Logger;
  readonly #open = new Set<Life>();
  #changed = new Set<Life>();
  #timer: NodeJS.Timeout | undefined;
  #busy = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(repository: SandboxRepository, log: Logger) {
    this.#repository = repository;
    this.#log = log;
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), writeEveryMs);
  }

  /** Counts as use until it is disposed of: a command, a stream, a transfer. */
  hold(life: Life): Disposable {
    life.open++;
    this.#open.add(life);
    this.touch(life);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        life.open--;
        if (life.open === 0) this.#open.delete(life);
        this.touch(life);
      },
    };
  }

  /** @param at not before the use that is known */
  touch(life: Life, at = new Date()): void {
    life.lastActiveAt = at;
    life.forgetTries();
    if (life.timeoutMode === 'idle') life.expiresAt = new Date(at.getTime() + life.timeoutSec * 1000);
    this.#changed.add(life);
  }

  /** Has what is in memory written with the next batch. */
  changed(life: Life): void {
    this.#changed.add(life);
  }

  async #write(): Promise<void> {
    const lives = [...this.#changed].filter((life) => life.status === 'running');
    this.#changed = new Set();
    if (lives.length === 0) return;
    const rows = lives.map(({ id, generation, lastActiveAt, expiresAt }) => ({
      id,
      generation,
      lastActiveAt: lastActiveAt ?? new Date(),
      expiresAt,
    }));
    try {
      for (let i = 0; i < rows.length; i += 1_000) {
        await this.#repository.saveActivity(rows.slice(i, i + 1_000));
      }
    } catch (error) {
      for (const life of lives) this.#changed.add(life);
      this.#log.debug({ err: error }, 'activity was not stored; trying again');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    await this.#write();
  }

  #tick(): void {
    for (const life of this.#open) this.touch(life);
    if (this.#changed.size === 0 || this.#busy) return;
    this.#busy = true;
    this.#writing = this.#write().finally(() => {
      this.#busy = false;
    });
  }
}
