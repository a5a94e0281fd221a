import { type Life, refusalOf } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';
import type { Resumer } from './resume.ts';

/** How often one request lets others pause the sandbox under it before it gives up. */
const mostTries = 3;

/**
 * The running life that a command or a transfer needs. One with `auto_resume` that is paused is resumed first,
 * by one resume for all who wait; one that is just being paused, after that.
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

  async ready(id: string, requestId: string): Promise<Life> {
    for (let tries = 0; tries < mostTries; tries++) {
      const life = this.#lives.get(id);
      if (!life?.autoResume) break;
      if (this.#operations.kind(id) === 'pause') await this.#operations.ended(id);
      else if (life.status === 'paused' || this.#operations.kind(id) === 'resume') {
        await this.#resumer.resumeAnyhow(id, 'a request needs it', requestId);
      } else break;
    }
    return this.running(id);
  }
}
