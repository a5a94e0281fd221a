import type { HostSandbox, NewSnapshot, PerchError } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';

/** The outcome of a fork: a row, or why there is none, for each child. */
export interface Forked {
  children: (SandboxRow | PerchError)[];
  timings: Record<string, number>;
}

/** The outcome of a pause or a resume. */
export interface Transitioned {
  row: SandboxRow;
  /** Milliseconds by stage, and `total`. */
  timings: Record<string, number>;
}

interface Results {
  create: SandboxRow;
  pause: Transitioned;
  resume: Transitioned;
  snapshot: NewSnapshot;
  fork: Forked;
}
type Kind = keyof Results;

interface Operation {
  kind: Kind;
  /** The way in which it is done, for people: others of its kind may be asked for in another. */
  how: string;
  task: Promise<unknown>;
}

/**
 * The operations of this process on each sandbox: one at a time. Each belongs to nobody who asked for it and
 * goes on when they leave. A destroy is none of these, since it overtakes them all.
 */
export class Operations {
  readonly #running = new Map<string, Operation>();
  /** The last word of a host on a sandbox while there was an operation. */
  readonly #told = new Map<string, [hostId: string, told: HostSandbox]>();
  readonly #after: (hostId: string, told: HostSandbox) => Promise<void>;

  /** @param after gets, at the end of an operation, what a host last told meanwhile; must not reject */
  constructor(after: (hostId: string, told: HostSandbox) => Promise<void>) {
    this.#after = after;
  }

  /** Begins when the one before, which may be about to end, has ended. */
  run<K extends Kind>(id: string, kind: K, work: () => Promise<Results[K]>, how = ''): Promise<Results[K]> {
    const before = this.ended(id);
    const task = (before ? before.then(work) : work()).finally(async () => {
      if (this.#running.get(id) === operation) this.#running.delete(id);
      const told = this.#told.get(id);
      this.#told.delete(id);
      if (told) await this.#after(...told);
    });
    const operation = { kind, how, task };
    this.#running.set(id, operation);
    return task;
  }

  kind(id: string): Kind | undefined {
    return this.#running.get(id)?.kind;
  }

  /** The outcome of the operation that is under way, when it is of this kind. */
  join<K extends Kind>(id: string, kind: K): Promise<Results[K]> | undefined {
    const operation = this.#running.get(id);
    return operation?.kind === kind ? (operation.task as Promise<Results[K]>) : undefined;
  }

  /** The way in which the one under way is done, as `run` was told. */
  how(id: string): string | undefined {
    return this.#running.get(id)?.how;
  }

  /** Resolves at the end of the operation that is under way, whatever it comes to. */
  ended(id: string): Promise<void> | undefined {
    return this.#running.get(id)?.task.then(
      () => {},
      () => {},
    );
  }

  /** Keeps what a host says for the end of the operation. */
  tell(hostId: string, seen: HostSandbox): void {
    this.#told.set(seen.id, [hostId, seen]);
  }
}
