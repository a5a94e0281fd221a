import { sandboxStatuses } from '@perch/protocol';
import type { Logger } from 'pino';
import { failpoint } from '../failpoints/index.ts';
import type { Hosts } from '../hosts/index.ts';
import type { Life } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';

/** How long a failed sandbox, with its reason and console, is kept. */
const failedKeptMs = 3600 * 1000;

const beforeDestroying = sandboxStatuses.filter((one) => one !== 'destroying' && one !== 'destroyed');

/** How sandboxes end: destroyed, or failed and destroyed later. A destroy overtakes every operation. */
export class Destroyer {
  readonly #lives: Lives;
  readonly #operations: Operations;
  readonly #hosts: Pick<Hosts, 'of'>;
  readonly #log: Logger;
  readonly #destroying = new Map<string, Promise<void>>();

  constructor(parts: { lives: Lives; operations: Operations; hosts: Pick<Hosts, 'of'>; log: Logger }) {
    this.#lives = parts.lives;
    this.#operations = parts.operations;
    this.#hosts = parts.hosts;
    this.#log = parts.log;
  }

  /** Resolves when the sandbox is gone; also when it was. */
  destroy(id: string, detail: string, requestId?: string): Promise<void> {
    const going = this.#destroying.get(id);
    if (going) return going;
    const task = this.#destroy(id, detail, requestId).finally(() => this.#destroying.delete(id));
    this.#destroying.set(id, task);
    return task;
  }

  /** The same, for nobody who waits. */
  abandon(id: string, detail: string): void {
    this.destroy(id, detail).catch((error: unknown) =>
      this.#log.warn({ sandbox: id, err: error }, 'left to the reconciler'),
    );
  }

  isDestroying(id: string): boolean {
    return this.#destroying.has(id);
  }

  /** Its host has nothing of it any more. */
  async gone(life: Life, detail: string | null): Promise<void> {
    await this.#lives.transition(
      life,
      [...beforeDestroying, 'destroying'],
      {
        status: 'destroyed',
        host_ip: null,
        expires_at: null,
        access_token: '',
        next_access_token: null,
        edge_token: '',
        traffic_token: null,
        ended_at: new Date(),
      },
      detail,
    );
    this.#lives.remove(life.id);
  }

  async fail(life: Life, reason: string): Promise<void> {
    if (life.status === 'failed') return;
    failpoint('fail.told');
    const now = Date.now();
    this.#log.warn({ sandbox: life.id, reason }, 'a sandbox failed');
    await this.#lives.transition(
      life,
      beforeDestroying,
      {
        status: 'failed',
        reason: reason.slice(0, 1_000),
        host_ip: null,
        ended_at: new Date(now),
        expires_at: new Date(now + failedKeptMs),
      },
      reason.slice(0, 1_000),
    );
    failpoint('fail.done');
  }

  /** Destroys what a host has and nobody knows. */
  async sweep(hostId: string, id: string): Promise<void> {
    this.#log.warn({ sandbox: id, host: hostId }, 'the host has a sandbox that nobody knows; destroying it');
    await this.#hosts.of(hostId).destroy(id);
  }

  async #destroy(id: string, detail: string, requestId: string | undefined): Promise<void> {
    const life = await this.#begin(id, detail);
    if (!life) return;
    failpoint('destroy.written');
    const host = this.#hosts.of(life.hostId);
    await host.destroy(id, requestId);
    if (this.#operations.kind(id) === 'create') {
      // The call to start it may have come to the host after the one to destroy it. A pause or a resume that
      // comes late finds nothing there.
      await this.#operations.ended(id);
      await host.destroy(id, requestId);
    }
    failpoint('destroy.answered');
    await this.gone(life, null);
    failpoint('destroy.done');
  }

  /** @returns undefined when it was destroyed before */
  async #begin(id: string, detail: string): Promise<Life | undefined> {
    let life = this.#lives.get(id);
    if (!life) await this.#lives.row(id);
    while (life && life.status !== 'destroying') {
      const row = await this.#lives.transition(life, beforeDestroying, { status: 'destroying' }, detail);
      if (row) return life;
      // A resume may have ended meanwhile: then it is the next life that has to go.
      const now = this.#lives.get(id);
      life = now === life ? undefined : now;
    }
    return life;
  }
}
