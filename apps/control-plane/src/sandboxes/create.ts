import {
  type CreateSandbox,
  type HostSandbox,
  meaningOf,
  newAccessToken,
  newSandboxId,
  type SandboxStatus,
} from '@perch/protocol';
import type { NewSandboxRow, SandboxRow } from '../database/index.ts';
import { failpoint } from '../failpoints/index.ts';
import type { Hosts } from '../hosts/index.ts';
import type { Destroyer } from './destroy.ts';
import type { Idempotency, IdempotencyKey, Unanswered } from './idempotency.ts';
import type { Life } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';
import { persist } from './persist.ts';
import type { SandboxRepository } from './repository.ts';
import { type EdgeSettings, edgeColumns, type FullRequest, withDefaults, withMachine } from './request.ts';

export interface CreateContext {
  requestId: string;
  /** Aborts when nobody waits for the answer; absent when a repeat may still fetch it. */
  clientGone?: AbortSignal;
  idempotencyKey?: IdempotencyKey;
  edge?: EdgeSettings;
}

interface Parts {
  repository: SandboxRepository;
  idempotency: Idempotency;
  hosts: Hosts;
  lives: Lives;
  operations: Operations;
  destroyer: Destroyer;
}

const atAnEnd: ReadonlySet<SandboxStatus> = new Set(['failed', 'destroying', 'destroyed']);

/** Starts sandboxes. The row is written before the host is asked for anything. */
export class Creator {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Creates one, or gives that of its idempotency key. */
  async create(request: CreateSandbox, context: CreateContext): Promise<SandboxRow> {
    const full = withDefaults(request);
    const make = () => this.#create(full, request, context);
    const key = context.idempotencyKey;
    if (!key) return make();
    const asked = context.edge ? { ...full, edge: context.edge } : full;
    return this.#parts.idempotency.once(key, asked, {
      make,
      find: (id) => this.#parts.repository.find(id),
      unanswered: (id) => this.#unanswered(id),
    });
  }

  /**
   * A start that a crash of perchd cut off. The one who asked learns the id by repeating the request when it
   * had an idempotency key; otherwise nobody knows the sandbox, and it is destroyed.
   */
  async recover(life: Life, seen: HostSandbox): Promise<void> {
    if (!(await this.#parts.idempotency.isAsked(life.id))) {
      await this.#parts.destroyer.destroy(life.id, 'perchd ended while it was being created');
    } else if (seen.status === 'running') {
      await this.#run(life, seen, 'adopted after a restart of perchd');
    }
  }

  async #unanswered(id: string): Promise<Unanswered> {
    const life = this.#parts.lives.get(id);
    if (life?.status === 'creating') return 'pending';
    const row = life && (await this.#parts.repository.find(id));
    return row && !atAnEnd.has(row.status) ? row : 'gone';
  }

  /**
   * Starts one that `begin` makes on the host, which is called when its row is written. It is an operation of its
   * own, as is every create.
   */
  start(row: NewSandboxRow, begin: () => Promise<HostSandbox>, context: CreateContext): Promise<SandboxRow> {
    return this.#parts.operations.run(row.id, 'create', () => this.#start(row, begin, context));
  }

  async #create(full: FullRequest, asked: CreateSandbox, context: CreateContext): Promise<SandboxRow> {
    const { hosts } = this.#parts;
    const source = await hosts.place.directory.source(full.template);
    const { env, ...columns } = withMachine(full, asked, source);
    const row: NewSandboxRow = {
      ...columns,
      ...edgeColumns(context.edge),
      id: newSandboxId(),
      status: 'creating',
      metadata: JSON.stringify(full.metadata),
      host_id: source.hostId,
      host_ip: null,
      generation: 1,
      access_token: newAccessToken(),
      created_at: new Date(),
    };
    const { id, generation, template, vcpus, memory_mb, disk_mb, access_token } = row;
    const body = { generation, template, vcpus, memory_mb, disk_mb, access_token, env };
    return this.start(row, () => hosts.of(row.host_id).create(id, body, context.requestId), context);
  }

  async #start(
    row: NewSandboxRow,
    begin: () => Promise<HostSandbox>,
    context: CreateContext,
  ): Promise<SandboxRow> {
    const { repository, lives, destroyer } = this.#parts;
    const { id } = row;
    const life = lives.add(await repository.insert(row, context.idempotencyKey));
    failpoint('create.written');
    const abandon = () => destroyer.abandon(id, 'its client went away during the create');
    context.clientGone?.addEventListener('abort', abandon, { once: true });
    if (context.clientGone?.aborted) abandon();
    let seen: HostSandbox;
    try {
      seen = await begin();
      failpoint('create.answered');
    } catch (error) {
      await this.#undo(life, error);
      throw life.status === 'destroying' ? life.refusal() : error;
    }
    const running = await this.#run(life, seen, null);
    if (!running) throw life.refusal();
    failpoint('create.done');
    return running;
  }

  async #run(life: Life, seen: HostSandbox, detail: string | null): Promise<SandboxRow | undefined> {
    const now = new Date();
    return this.#parts.lives.transition(
      life,
      ['creating'],
      {
        status: 'running',
        host_ip: seen.address,
        started_at: now,
        last_active_at: now,
        expires_at: new Date(now.getTime() + life.timeoutSec * 1000),
      },
      detail,
    );
  }

  /** Takes a start back. A sandbox that the host refused was never made; after any other error the outcome is unknown. */
  async #undo(life: Life, error: unknown): Promise<void> {
    const { repository, lives, destroyer } = this.#parts;
    if (meaningOf('create', error) === 'nothing' && life.status === 'creating') {
      failpoint('create.refused');
      await persist(() => repository.removeCreating(life.id));
      lives.remove(life.id);
      return;
    }
    const why = error instanceof Error ? error.message : 'unknown error';
    destroyer.abandon(life.id, `the create failed: ${why}`.slice(0, 500));
  }
}
