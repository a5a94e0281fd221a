/**
 * Compares what the database says of the sandboxes of one host with what that has, in both directions: each change as the
 * host tells it, and everything when the stream of changes begins, once a minute, and sooner while a pause or a resume is
 * left half-way.
 */

import type { HostSandbox } from '@perch/protocol';
import type { Logger } from 'pino';
import { type Host, watchHost } from '../hosts/index.ts';
import type { SandboxService } from '../sandboxes/index.ts';

const everyMs = 60_000;
const unsettledEveryMs = 2_000;

export class Reconciler implements AsyncDisposable {
  readonly #host: Host;
  readonly #sandboxes: SandboxService;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #watching: Promise<void> = Promise.resolve();
  #comparing: Promise<void> | undefined;
  #failing = false;
  #timers: NodeJS.Timeout[] = [];

  constructor(host: Host, sandboxes: SandboxService, log: Logger) {
    this.#host = host;
    this.#sandboxes = sandboxes;
    this.#log = log.child({ host: host.id });
  }

  start(): void {
    this.#watching = watchHost(
      this.#host.client,
      {
        sandbox: async (sandbox) => this.#each(sandbox),
        synced: async () => void this.compare(),
      },
      this.#log,
      this.#stop.signal,
    );
    this.#timers = [
      setInterval(() => void this.compare(), everyMs),
      setInterval(() => this.#sandboxes.unsettled(this.#host.id) && void this.compare(), unsettledEveryMs),
    ];
  }

  /** Compares everything; those who ask meanwhile share the answer. */
  compare(): Promise<void> {
    this.#comparing ??= this.#compare()
      .then(
        () => {
          this.#failing = false;
        },
        (error: unknown) => {
          this.#log[this.#failing ? 'debug' : 'warn']({ err: error }, 'the comparison with the host failed');
          this.#failing = true;
        },
      )
      .finally(() => {
        this.#comparing = undefined;
      });
    return this.#comparing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#stop.abort();
    await this.#watching;
    await this.#comparing;
  }

  /**
   * The order matters. A sandbox that was at rest before the list was asked for has to be in it; and a row is
   * written before its sandbox is made, so that one in the list without a row has none.
   */
  async #compare(): Promise<void> {
    const before = this.#sandboxes.settled(this.#host.id);
    const listed = await this.#host.client.list();
    const there = new Set(listed.map(({ id }) => id));
    for (const sandbox of listed) this.#each(sandbox);
    for (const life of before) {
      if (!there.has(life.id)) this.#background(life.id, this.#sandboxes.missing(life));
    }
  }

  /** One sandbox that takes its time must not hold up the news of the others. */
  #each(sandbox: HostSandbox): void {
    this.#background(sandbox.id, this.#sandboxes.observed(this.#host.id, sandbox));
  }

  #background(id: string, task: Promise<void>): void {
    task.catch((error: unknown) =>
      this.#log.warn({ sandbox: id, err: error }, 'left to the next comparison'),
    );
  }
}
