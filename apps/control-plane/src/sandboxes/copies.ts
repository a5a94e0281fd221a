import {
  type ForkSandbox,
  type HostFork,
  type HostForked,
  type HostSandbox,
  type NewSnapshot,
  newAccessToken,
  newSandboxId,
  PerchError,
} from '@perch/protocol';
import type { NewSandboxRow, SandboxRow } from '../database/index.ts';
import { failpoint } from '../failpoints/index.ts';
import type { ActivityTracker } from './activity.ts';
import type { CreateContext, Creator } from './create.ts';
import { type Life, refusalOf } from './life.ts';
import type { Forked } from './operations.ts';
import type { TransitionParts } from './pause.ts';

type CopyStatus = 'snapshotting' | 'forking';

/** Children have the time-out of the source, or this one, seconds. */
export interface ForkRequest extends ForkSandbox {
  timeoutSec?: number;
}

export interface SnapshotRequest {
  name: string;
  /** Whether it takes the place of one of that name. */
  overwrite: boolean;
  /** Whether it has the memory; default: true. */
  memory?: boolean | undefined;
}

interface Parts extends TransitionParts {
  creator: Creator;
  activity: ActivityTracker;
}

/**
 * Copies of sandboxes that run or are paused: snapshots with names, and forks. The row of the source stays what
 * it is, since nothing of it changes: its guest can be used all the time. Until the copy is made, what else is
 * asked of it waits, but for its end.
 */
export class Copier {
  readonly #parts: Parts;
  readonly #copying = new Map<string, CopyStatus>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The status of a running sandbox while it is being copied. */
  status(id: string): CopyStatus | undefined {
    return this.#copying.get(id);
  }

  /** Makes a snapshot with a name. */
  snapshot(
    id: string,
    { name, overwrite, memory = true }: SnapshotRequest,
    requestId: string,
  ): Promise<NewSnapshot> {
    const { hosts, operations, metrics, log } = this.#parts;
    return operations.run(id, 'snapshot', async () => {
      const life = await this.#source(id);
      using _ = this.#use(life, 'snapshotting');
      const { generation } = life;
      const body = { name, sandbox_id: id, generation, overwrite, ...(memory ? {} : { memory }) };
      const made = await hosts.of(life.hostId).snapshot(life, body, requestId);
      failpoint('snapshot.answered');
      metrics.transition('snapshot', made.timings_ms);
      log.info({ sandbox: id, snapshot: name, timings_ms: made.timings_ms }, 'copied');
      return made;
    });
  }

  /**
   * Makes children that go on from where the source is. Each has a row before the host is asked for any of them.
   * @throws what the host says when there is none
   */
  fork(
    id: string,
    { count = 1, checkpoint, timeoutSec }: ForkRequest,
    context: CreateContext,
  ): Promise<Forked> {
    const { hosts, lives, operations, metrics, log } = this.#parts;
    return operations.run(id, 'fork', async () => {
      const life = await this.#source(id);
      using _ = this.#use(life, 'forking');
      const host = hosts.of(life.hostId);
      const source = await lives.row(id);
      const rows = Array.from({ length: count }, () => childOf(source, timeoutSec));
      const body: HostFork = {
        generation: life.generation,
        ...(checkpoint === undefined ? {} : { checkpoint }),
        children: rows.map((row) => ({ id: row.id, access_token: row.access_token })),
      };
      const asked = Promise.withResolvers<HostForked>();
      // It may be rejected while rows are still written, before anybody waits for it.
      asked.promise.catch(() => {});
      let unwritten = rows.length;
      const begin = (child: string) => {
        unwritten--;
        failpoint('fork.row');
        if (unwritten === 0) {
          failpoint('fork.written');
          host.fork(life, body, context.requestId).then((forked) => {
            failpoint('fork.answered');
            asked.resolve(forked);
          }, asked.reject);
        }
        return asked.promise.then((forked) => pick(forked, child));
      };
      const children = await Promise.allSettled(
        rows.map(async (row) => {
          try {
            const child = await this.#parts.creator.start(row, () => begin(row.id), context);
            failpoint('fork.child');
            return child;
          } catch (error) {
            // One whose row cannot be written keeps the host from being asked for any of them.
            asked.reject(error);
            throw error;
          }
        }),
      );
      const { timings_ms: timings } = await asked.promise;
      failpoint('fork.done');
      metrics.transition('fork', timings);
      log.info({ sandbox: id, children: rows.map((row) => row.id), timings_ms: timings }, 'forked');
      const outcome = (child: PromiseSettledResult<SandboxRow>) =>
        child.status === 'fulfilled' ? child.value : toPerchError(child.reason);
      return { children: children.map(outcome), timings };
    });
  }

  /** The source of a copy. @throws PerchError sandbox_not_found, sandbox_not_running, sandbox_failed */
  async #source(id: string): Promise<Life> {
    const { lives } = this.#parts;
    const life = lives.get(id);
    if (life && (life.status === 'running' || life.status === 'paused')) return life;
    const { status, reason } = life ?? (await lives.row(id));
    throw refusalOf(id, status, reason);
  }

  #use(life: Life, status: CopyStatus): Disposable {
    const held = life.status === 'running' ? this.#parts.activity.hold(life) : undefined;
    this.#copying.set(life.id, status);
    return {
      [Symbol.dispose]: () => {
        this.#copying.delete(life.id);
        held?.[Symbol.dispose]();
      },
    };
  }
}

function toPerchError(error: unknown): PerchError {
  if (error instanceof PerchError) return error;
  const message = 'A child could not be made; the log has the cause.';
  return new PerchError('internal', message, {}, { cause: error });
}

function childOf(source: SandboxRow, timeoutSec: number | undefined): NewSandboxRow {
  const { template, vcpus, memory_mb, disk_mb, timeout_mode, on_timeout, mask_host } = source;
  const { pause_memory, auto_resume } = source;
  return {
    ...{
      template,
      vcpus,
      memory_mb,
      disk_mb,
      timeout_mode,
      on_timeout,
      pause_memory,
      auto_resume,
      mask_host,
    },
    timeout_sec: timeoutSec ?? source.timeout_sec,
    ...(source.traffic_token === null ? { traffic_token: null } : {}),
    id: newSandboxId(),
    status: 'creating',
    metadata: JSON.stringify(source.metadata),
    host_id: source.host_id,
    host_ip: null,
    generation: 1,
    access_token: newAccessToken(),
    created_at: new Date(),
  };
}

/** @throws PerchError why there is no such child */
function pick({ results }: HostForked, child: string): HostSandbox {
  for (const result of results) {
    if ('sandbox' in result && result.sandbox.id === child) return result.sandbox;
    if ('error' in result && result.id === child) throw toError(child, result);
  }
  throw toError(child, undefined);
}

function toError(id: string, body: unknown): PerchError {
  const reason = 'The host does not say what became of it.';
  return PerchError.fromBody(body) ?? new PerchError('sandbox_failed', reason, { id, reason });
}
