import { type HostSandbox, isPerchError, meaningOf, PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import type { SandboxRow } from '../database/index.ts';
import { failpoint } from '../failpoints/index.ts';
import type { Hosts } from '../hosts/index.ts';
import type { Metrics } from '../metrics/index.ts';
import type { Destroyer } from './destroy.ts';
import { type Life, refusalOf } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations, Transitioned } from './operations.ts';

export interface TransitionParts {
  hosts: Pick<Hosts, 'of'>;
  lives: Lives;
  operations: Operations;
  destroyer: Destroyer;
  metrics: Pick<Metrics, 'transition'>;
  log: Logger;
}

/** Time that a sandbox has at least after a pause that failed, ms: enough to try again. */
const leftAfterFailureMs = 60_000;

export interface PauseRequest {
  /** Whether the memory is kept; default: true. */
  memory?: boolean | undefined;
}

/**
 * Pauses: running → pausing → paused, or back to running. The life ends with `paused`, and everything that was
 * opened for it: its guest is gone by then, and never learns of it, so that commands live on. When the outcome stays unknown the row stays `pausing`, and what the host says next settles it.
 */
export class Pauser {
  readonly #parts: TransitionParts;

  constructor(parts: TransitionParts) {
    this.#parts = parts;
  }

  /**
   * Those who ask for the same meanwhile share the outcome.
   * @param detail who asked, for the events of the sandbox
   * @throws PerchError sandbox_not_running, also when it is being paused in the other way; what the host says
   */
  async pause(
    id: string,
    detail: string,
    requestId?: string,
    { memory = true }: PauseRequest = {},
  ): Promise<Transitioned> {
    const { lives, operations } = this.#parts;
    const how = memory ? 'with its memory' : 'without its memory';
    const joined = operations.join(id, 'pause');
    const under = operations.how(id);
    if (joined && under === how) return joined;
    if (joined) {
      const message = `Sandbox ${id} is pausing ${under}, not ${how}.`;
      throw new PerchError('sandbox_not_running', message, { id, status: 'pausing' });
    }
    const life = lives.get(id);
    if (!life) {
      const row = await lives.row(id);
      throw refusalOf(id, row.status, row.reason);
    }
    if (life.status !== 'running') throw life.refusal();
    return operations.run(id, 'pause', () => this.#pause(life, memory, detail, requestId), how);
  }

  /** It is paused on its host: the end of a pause, or of a resume that did not succeed. */
  async paused(life: Life, detail: string | null): Promise<SandboxRow | undefined> {
    return this.#parts.lives.transition(
      life,
      ['running', 'pausing', 'resuming'],
      { status: 'paused', host_ip: null, ...(life.status === 'resuming' ? {} : { expires_at: new Date() }) },
      detail,
    );
  }

  /** It was not paused after all. */
  async runsOn(life: Life, detail: string): Promise<void> {
    const atLeast = Date.now() + leftAfterFailureMs;
    const expiresAt = new Date(Math.max(life.expiresAt?.getTime() ?? 0, atLeast));
    await this.#parts.lives.transition(
      life,
      ['pausing'],
      { status: 'running', expires_at: expiresAt },
      detail.slice(0, 500),
    );
  }

  async #pause(
    life: Life,
    memory: boolean,
    detail: string,
    requestId: string | undefined,
  ): Promise<Transitioned> {
    const { hosts, lives, metrics, log } = this.#parts;
    const { id } = life;
    const begun = await lives.transition(
      life,
      ['running'],
      {
        ...{ status: 'pausing', paused_memory: memory },
        ...{ last_active_at: life.lastActiveAt, expires_at: life.deadline() },
      },
      detail,
    );
    if (!begun) throw (lives.get(id) ?? life).refusal();
    failpoint('pause.written');
    let seen: HostSandbox;
    try {
      seen = await hosts.of(life.hostId).pause(life, memory, requestId);
      failpoint('pause.answered');
    } catch (error) {
      throw await this.#refused(life, error);
    }
    const row = await this.paused(life, null);
    if (!row) throw life.refusal();
    failpoint('pause.done');
    metrics.transition('pause', seen.timings_ms);
    log.info({ sandbox: id, timings_ms: seen.timings_ms }, 'paused');
    return { row, timings: seen.timings_ms };
  }

  /** @returns the error for those who asked */
  async #refused(life: Life, error: unknown): Promise<unknown> {
    if (life.status !== 'pausing') return life.refusal();
    if (meaningOf('pause', error) === 'running') {
      await this.runsOn(life, `not paused: ${(error as Error).message}`);
    } else if (isPerchError(error, 'sandbox_failed')) {
      await this.#parts.destroyer.fail(life, error.details.reason);
    } else {
      this.#parts.log.warn({ sandbox: life.id, err: error }, 'a pause is left to the reconciler');
    }
    return error;
  }
}
