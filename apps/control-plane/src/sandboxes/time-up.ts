import type { Logger } from 'pino';
import type { Life } from './life.ts';

interface Parts {
  lives: { get(id: string): Life | undefined; arm(id: string): void };
  operations: { ended(id: string): Promise<void> | undefined };
  destroy: (id: string, detail: string) => Promise<unknown>;
  pause: (id: string, detail: string) => Promise<unknown>;
  log: Logger;
}

const destroyAgainMs = 2_000;
/** A pause that failed moves the end of time by a minute; so this is also how many minutes are tried. */
const mostPauses = 5;

/** What the end of a sandbox's time does: destroys it, or pauses it and never destroys it. */
export class TimeUp {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  expired(id: string): void {
    const { lives, operations } = this.#parts;
    const life = lives.get(id);
    if (!life) return;
    const ended = operations.ended(id);
    // What is being done to it may be its pause, or move the end of its time.
    if (ended) void ended.then(() => lives.arm(id));
    else if (life.status === 'running' && life.onTimeout === 'pause') this.#pause(life);
    else this.#destroy(life);
  }

  #destroy({ id, status }: Life): void {
    const { destroy, lives, log } = this.#parts;
    destroy(id, status === 'failed' ? 'kept long enough' : 'its time was over').catch((error: unknown) => {
      log.warn({ sandbox: id, err: error }, 'an expired sandbox could not be destroyed yet');
      setTimeout(() => lives.get(id) && this.expired(id), destroyAgainMs).unref();
    });
  }

  #pause(life: Life): void {
    const { pause, log } = this.#parts;
    const { id } = life;
    if (life.pauseTries >= mostPauses) {
      log.error(
        { sandbox: id, tries: life.pauseTries },
        'the time of a sandbox is over and it cannot be paused; it runs on until its next use',
      );
      return;
    }
    life.pauseTries++;
    pause(id, 'its time was over').catch((error: unknown) => {
      log.warn({ sandbox: id, err: error, tries: life.pauseTries }, 'an expired sandbox was not paused yet');
    });
  }
}
