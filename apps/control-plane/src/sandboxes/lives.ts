import { isSandboxId, PerchError, type SandboxStatus } from '@perch/protocol';
import type { Logger } from 'pino';
import type { SandboxChanges, SandboxRow } from '../database/index.ts';
import { Expiry } from './expiry.ts';
import { Life } from './life.ts';
import { persist } from './persist.ts';
import type { SandboxRepository } from './repository.ts';

/**
 * Every sandbox that is not destroyed, in memory, so that commands and transfers ask no database; and the one
 * way to change a status, in the database first and then here. The changes of one sandbox are made in turn, so
 * that both always agree.
 */
export class Lives implements Disposable {
  readonly #repository: SandboxRepository;
  readonly #log: Logger;
  readonly #expiry: Expiry;
  readonly #lives = new Map<string, Life>();
  /** Ends of the last change of each sandbox that has one under way. */
  readonly #turns = new Map<string, Promise<unknown>>();

  /** @param expired called when the time of a sandbox is over */
  constructor(repository: SandboxRepository, log: Logger, expired: (id: string) => void) {
    this.#repository = repository;
    this.#log = log;
    this.#expiry = new Expiry((id) => this.#lives.get(id)?.deadline(), expired);
  }

  /** Takes over what the database holds. */
  async load(): Promise<void> {
    for (const row of await this.#repository.live()) this.arm(this.add(row).id);
  }

  add(row: SandboxRow): Life {
    const life = new Life(row);
    this.#lives.set(row.id, life);
    return life;
  }

  get(id: string): Life | undefined {
    return this.#lives.get(id);
  }

  all(): Life[] {
    return [...this.#lives.values()];
  }

  remove(id: string): void {
    this.#expiry.disarm(id);
    this.#lives.delete(id);
  }

  /** Watches the end of its time from now. */
  arm(id: string): void {
    this.#expiry.arm(id);
  }

  /** Watches the end of its time if nothing does. */
  watch(id: string): void {
    this.#expiry.watch(id);
  }

  /** @throws sandbox_not_found */
  async row(id: string): Promise<SandboxRow> {
    const row = isSandboxId(id) ? await this.#repository.find(id) : undefined;
    if (!row) throw new PerchError('sandbox_not_found', `No sandbox "${id.slice(0, 64)}".`, { id });
    return row;
  }

  /** Writes a change and takes it over; undefined when the sandbox was in none of the expected statuses. */
  transition(
    life: Life,
    expected: SandboxStatus[],
    changes: SandboxChanges & { status: SandboxStatus },
    detail: string | null,
  ): Promise<SandboxRow | undefined> {
    const { id, generation } = life;
    return this.#inTurn(id, async () => {
      const row = await persist(async (attempt) => {
        const changed = await this.#repository.transition(id, generation, expected, changes, detail);
        if (changed || attempt === 0) return changed;
        const now = await this.#repository.find(id);
        const wanted = changes.generation ?? generation;
        return now?.status === changes.status && now.generation === wanted ? now : undefined;
      });
      if (row) {
        this.#take(life, row);
        this.#log.info({ sandbox: id, status: row.status, detail }, 'sandbox');
      } else {
        await this.#reread(id);
      }
      return row;
    });
  }

  [Symbol.dispose](): void {
    this.#expiry[Symbol.dispose]();
  }

  #take(life: Life, row: SandboxRow): void {
    if (row.status === 'running' && life.signal.aborted) {
      const next = this.add(row);
      if (next.generation === life.generation) {
        next.pauseTries = life.pauseTries;
        next.silences = life.silences;
      }
    } else {
      life.apply(row);
    }
    this.#expiry.arm(life.id);
  }

  /** A write whose answer was lost for good may have been done: then the database is right. */
  async #reread(id: string): Promise<void> {
    const life = this.#lives.get(id);
    const row = await this.#repository.find(id);
    if (life && row && (row.status !== life.status || row.generation !== life.generation)) {
      this.#take(life, row);
    }
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const task = (this.#turns.get(id) ?? Promise.resolve()).then(work);
    const end = task
      .catch(() => {})
      .finally(() => {
        if (this.#turns.get(id) === end) this.#turns.delete(id);
      });
    this.#turns.set(id, end);
    return task;
  }
}
