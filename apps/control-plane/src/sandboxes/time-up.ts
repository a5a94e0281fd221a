import type { Logger } from 'pino';
import type { Life } from './life.ts';

interface Parts {
  lives: { get(id: string): Life | undefined; arm(id: string): void };
  operations: { ended(id: string): Promise<void> | undefined };
  destroy: (id: string, detail: string) => Promise<unknown>;
  pause: (life: Life, detail: string) => Promise<unknown>;
  activity: { touch(life: Life, at: Date): void };
  lastCommand: LastCommand;
  log: Logger;
}

/**
 * When a command last ran in the sandbox: now, or when the last one ended; undefined: none is known; `silent`: the guest
 * does not answer. Throws when this process is going down, and so nobody knows.
 */
export type LastCommand = (life: Life) => Promise<Date | 'silent' | undefined>;

const destroyAgainMs = 2_000;
/** A pause that failed moves the end of time by a minute; so this is also how many minutes are tried. */
const mostPauses = 5;
/** A guest that stands still, as for want of room on the host's disk, may go on with its commands. */
const askAgainMs = 30_000;
const mostSilences = 10;

/**
 * The end of a sandbox's time: destroys it, or pauses it and never destroys it. A command that runs is
 * use of it, whoever follows it; so an idle sandbox is asked first.
 */
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
    // The operation under way may be its pause, or move the end of its time.
    if (ended) void ended.then(() => lives.arm(id));
    else if (life.status === 'running' && life.timeoutMode === 'idle') void this.#ask(life);
    else this.#end(life);
  }

  /** Its time goes on from the end of its last command, as from any other use. */
  async #ask(life: Life): Promise<void> {
    const { lives, operations, activity, lastCommand } = this.#parts;
    const { id } = life;
    let at: Awaited<ReturnType<LastCommand>>;
    try {
      at = await lastCommand(life);
    } catch {
      return;
    }
    if (lives.get(id) !== life) return;
    if (at === 'silent' && life.silences < mostSilences) {
      life.silences++;
      setTimeout(() => lives.arm(id), askAgainMs).unref();
      return;
    }
    if (at instanceof Date && at > (life.lastActiveAt ?? new Date(0))) activity.touch(life, at);
    const deadline = life.deadline();
    // It may have been used, or something may be done to it, meanwhile.
    if (operations.ended(id) || !deadline || deadline.getTime() > Date.now()) lives.arm(id);
    else this.#end(life);
  }

  #end(life: Life): void {
    if (life.status === 'running' && life.onTimeout === 'pause') this.#pause(life);
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
    pause(life, 'its time was over').catch((error: unknown) => {
      log.warn({ sandbox: id, err: error, tries: life.pauseTries }, 'an expired sandbox was not paused yet');
    });
  }
}
