import { type HostSandbox, isPerchError, meaningOf, newAccessToken, PerchError } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';
import { failpoint } from '../failpoints/index.ts';
import { type Life, resumeRefusalOf } from './life.ts';
import type { Transitioned } from './operations.ts';
import type { Pauser, TransitionParts } from './pause.ts';

export interface ResumeRequest {
  /** Of its history; default: the last. */
  checkpoint?: number | undefined;
  /** Whether it goes on with its memory, if that was kept; default: true. */
  memory?: boolean | undefined;
  /** Of its time from then on, seconds; default: as before. */
  timeoutSec?: number | undefined;
}

/**
 * Resumes: paused → resuming → running in the next generation, or back to paused. The row keeps its generation
 * until the new life runs; the token of that life is written before the host is asked, and kept until it runs.
 * So a resume that does not succeed changes nothing, and one whose answer is lost can be taken up by what the
 * host says, at any time.
 */
export class Resumer {
  readonly #parts: TransitionParts & { pauser: Pauser };

  constructor(parts: TransitionParts & { pauser: Pauser }) {
    this.#parts = parts;
  }

  /**
   * Those who ask for the same state meanwhile share the outcome.
   * @param detail who asked, for the events of the sandbox
   * @throws PerchError sandbox_not_paused, also when another state is being resumed; what the host says
   */
  async resume(
    id: string,
    detail: string,
    requestId?: string,
    how: ResumeRequest = {},
  ): Promise<Transitioned> {
    const { lives, operations } = this.#parts;
    const [from, under] = [sourceOf(how), operations.how(id)];
    const joined = operations.join(id, 'resume');
    if (joined && under === from) return joined;
    if (joined) {
      const message = `Sandbox ${id} is resuming from ${under}, not from ${from}.`;
      throw new PerchError('sandbox_not_paused', message, { id, status: 'resuming' });
    }
    const life = lives.get(id);
    const { status, reason } = life ?? (await lives.row(id));
    if (!life || status !== 'paused') throw resumeRefusalOf(id, status, reason);
    return operations.run(id, 'resume', () => this.#resume(life, detail, requestId, how), from);
  }

  /** The same for a request that needs the sandbox as it is: a resume under way will do, whatever it goes on from. */
  async resumeAnyhow(
    id: string,
    detail: string,
    requestId: string,
    timeoutSec?: number,
  ): Promise<Transitioned> {
    return this.#parts.operations.join(id, 'resume') ?? this.resume(id, detail, requestId, { timeoutSec });
  }

  /** Its host runs it in the next generation, by our call. */
  async runs(life: Life, seen: HostSandbox, detail: string | null): Promise<SandboxRow | undefined> {
    const { lives, log } = this.#parts;
    if (life.nextAccessToken === null) {
      log.error({ sandbox: life.id, generation: seen.generation }, 'the host resumed what nobody asked for');
      return undefined;
    }
    const now = new Date();
    return lives.transition(
      life,
      ['resuming', 'paused'],
      {
        status: 'running',
        generation: life.generation + 1,
        access_token: life.nextAccessToken,
        next_access_token: null,
        host_ip: seen.address,
        last_active_at: now,
        expires_at: new Date(now.getTime() + life.timeoutSec * 1000),
      },
      detail,
    );
  }

  async #resume(
    life: Life,
    detail: string,
    requestId: string | undefined,
    { checkpoint, memory = true, timeoutSec = life.timeoutSec }: ResumeRequest,
  ): Promise<Transitioned> {
    const { hosts, lives, metrics, log } = this.#parts;
    const { id, generation } = life;
    const token = life.nextAccessToken ?? newAccessToken();
    const begun = await lives.transition(
      life,
      ['paused'],
      { status: 'resuming', next_access_token: token, timeout_sec: timeoutSec },
      detail,
    );
    if (!begun) throw resumeRefusalOf(id, life.status, life.reason);
    failpoint('resume.written');
    let seen: HostSandbox;
    try {
      const next = { generation: generation + 1, access_token: token };
      seen = await hosts.of(life.hostId).resume(
        life,
        {
          ...next,
          ...(checkpoint === undefined ? {} : { checkpoint }),
          ...(memory ? {} : { memory }),
        },
        requestId,
      );
      failpoint('resume.answered');
    } catch (error) {
      throw await this.#refused(life, error);
    }
    const row = await this.runs(life, seen, null);
    if (!row) throw life.refusal();
    failpoint('resume.done');
    metrics.transition('resume', seen.timings_ms);
    log.info({ sandbox: id, timings_ms: seen.timings_ms }, 'resumed');
    return { row, timings: seen.timings_ms };
  }

  /** @returns the error for those who asked */
  async #refused(life: Life, error: unknown): Promise<unknown> {
    const { destroyer, pauser, log } = this.#parts;
    if (life.status !== 'resuming') return life.refusal();
    if (meaningOf('resume', error) === 'paused') {
      await pauser.paused(life, `not resumed: ${(error as Error).message}`.slice(0, 500));
    } else if (isPerchError(error, 'sandbox_failed')) {
      await destroyer.fail(life, error.details.reason);
    } else {
      log.warn({ sandbox: life.id, err: error }, 'a resume is left to the reconciler');
    }
    return error;
  }
}

/** The source of a resume, for people. */
function sourceOf({ checkpoint, memory = true }: ResumeRequest): string {
  const state = checkpoint === undefined ? 'its last state' : `checkpoint ${checkpoint}`;
  return memory ? state : `${state} without its memory`;
}
