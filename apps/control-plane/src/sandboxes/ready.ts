import { type Life, refusalOf } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';
import type { Resumer } from './resume.ts';

/** How often one request lets others pause the sandbox under it before it gives up. */
const mostTries = 3;

export interface ReadyRequest {
  always?: boolean;
  /** Of its time from a resume on, seconds; default: as before. */
  timeoutSec?: number;
  /** Whether it goes on with its memory, if that was kept; default: true. Without it no other resume will do. */
  memory?: boolean;
}

/**
 * The running life that a command or a transfer needs. One with `auto_resume` that is paused is resumed first,
 * by one resume for all who wait; one that is just being paused, after that. One without memory stays paused: what was
 * to be used in it is gone.
 */
export class Ready {
  readonly #lives: Lives;
  readonly #operations: Operations;
  readonly #resumer: Resumer;

  constructor(parts: { lives: Lives; operations: Operations; resumer: Resumer }) {
    this.#lives = parts.lives;
    this.#operations = parts.operations;
    this.#resumer = parts.resumer;
  }

  /** The life of a running sandbox, from memory when there is one; a paused one stays so. */
  async running(id: string): Promise<Life> {
    const life = this.#lives.get(id);
    if (life?.status === 'running') return life;
    if (life) throw life.refusal();
    const row = await this.#lives.row(id);
    throw refusalOf(id, row.status, row.reason);
  }

  /** @param how `always`: a paused one is resumed whether or not it has `auto_resume` */
  async ready(id: string, requestId: string, how: ReadyRequest = {}): Promise<Life> {
    for (let tries = 0; tries < mostTries; tries++) {
      const life = this.#lives.get(id);
      if (!life || !(life.autoResume || how.always)) break;
      const mayWake = how.always || life.pausedMemory;
      const under = this.#operations.kind(id);
      if (under === 'pause') await this.#operations.ended(id);
      else if (under === 'resume' || (life.status === 'paused' && mayWake)) {
        await this.#resume(life, requestId, how);
      } else break;
    }
    return this.running(id);
  }

  #resume({ id, pausedMemory }: Life, requestId: string, { memory, timeoutSec }: ReadyRequest) {
    const detail = 'a request needs it';
    if (memory !== false || !pausedMemory)
      return this.#resumer.resumeAnyhow(id, detail, requestId, timeoutSec);
    return this.#resumer.resume(id, detail, requestId, { memory, timeoutSec });
  }
}
