import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import type { Database, SandboxRow } from '../database/index.ts';
import { failpoint } from '../failpoints/index.ts';
import { persist } from './persist.ts';

/** How long an answer is kept. */
const keptMs = 24 * 3600 * 1000;
/** How long a repeat waits for what an earlier perchd left half done. */
const waitMs = 30_000;

export interface IdempotencyKey {
  apiKeyId: string;
  key: string;
}

/** How the sandbox of an unanswered key stands: still being made, running, or not there. */
export type Unanswered = 'pending' | 'gone' | SandboxRow;

interface Making {
  make: () => Promise<SandboxRow>;
  /** Undefined when it is forgotten. */
  find: (sandboxId: string) => Promise<SandboxRow | undefined>;
  unanswered: (sandboxId: string) => Promise<Unanswered>;
}

/**
 * Sandboxes by `Idempotency-Key`. A repeat gets the sandbox of the first request as it is now, which is remembered for
 * longer than the key. Only a success is kept: after an error the same key may try again.
 */
export class Idempotency {
  readonly #db: Database;
  readonly #running = new Map<string, { digest: string; sandbox: Promise<SandboxRow> }>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** The sandbox of this key, made by `make` if there is none. Repeats that come meanwhile share its answer. */
  once(key: IdempotencyKey, request: object, how: Making): Promise<SandboxRow> {
    const digest = hash('sha256', canonical(request), 'hex');
    const tag = `${key.apiKeyId} ${key.key}`;
    const running = this.#running.get(tag);
    if (running) {
      return running.digest === digest ? running.sandbox : Promise.reject(mismatch(key));
    }
    const sandbox = this.#first(key, digest, how).finally(() => this.#running.delete(tag));
    this.#running.set(tag, { digest, sandbox });
    return sandbox;
  }

  async isAsked(sandboxId: string): Promise<boolean> {
    const row = await this.#db
      .selectFrom('idempotency_keys')
      .select('key')
      .where('sandbox_id', '=', sandboxId)
      .executeTakeFirst();
    return row !== undefined;
  }

  async purge(): Promise<void> {
    await this.#db
      .deleteFrom('idempotency_keys')
      .where('created_at', '<', new Date(Date.now() - keptMs))
      .execute();
  }

  async #first(key: IdempotencyKey, digest: string, how: Making): Promise<SandboxRow> {
    const deadline = Date.now() + waitMs;
    while (!(await this.#reserve(key, digest))) {
      const row = await this.#find(key);
      if (!row) continue;
      if (!row.request_hash.equals(Buffer.from(digest, 'hex'))) throw mismatch(key);
      const standing = row.answered
        ? ((await how.find(row.sandbox_id)) ?? 'gone')
        : await how.unanswered(row.sandbox_id);
      if (standing === 'gone') await this.#release(key, row.answered);
      else if (standing !== 'pending') return this.#complete(key, standing);
      else if (Date.now() > deadline) {
        throw new PerchError('host_unavailable', 'The first request with this Idempotency-Key is not done.', {
          host_id: 'local',
        });
      } else await sleep(200);
    }
    failpoint('create.reserved');
    let sandbox: SandboxRow;
    try {
      sandbox = await how.make();
    } catch (error) {
      await persist(() => this.#release(key)).catch(() => {});
      throw error;
    }
    return this.#complete(key, sandbox);
  }

  async #reserve(key: IdempotencyKey, digest: string): Promise<boolean> {
    await this.#row(key)
      .where('created_at', '<', new Date(Date.now() - keptMs))
      .execute();
    const row = await this.#db
      .insertInto('idempotency_keys')
      .values({
        api_key_id: key.apiKeyId,
        key: key.key,
        request_hash: Buffer.from(digest, 'hex'),
        sandbox_id: '',
        answered: false,
        created_at: new Date(),
      })
      .onConflict((conflict) => conflict.doNothing())
      .returning('key')
      .executeTakeFirst();
    return row !== undefined;
  }

  #find(key: IdempotencyKey) {
    return this.#db
      .selectFrom('idempotency_keys')
      .selectAll()
      .where('api_key_id', '=', key.apiKeyId)
      .where('key', '=', key.key)
      .executeTakeFirst();
  }

  /** Unless somebody answered it meanwhile. */
  async #release(key: IdempotencyKey, answered = false): Promise<void> {
    await this.#row(key).where('answered', '=', answered).execute();
  }

  /** What could not be stored holds all the same: a repeat finds the sandbox by its id. */
  async #complete(key: IdempotencyKey, sandbox: SandboxRow): Promise<SandboxRow> {
    await persist(async () => {
      await this.#db
        .updateTable('idempotency_keys')
        .set({ answered: true })
        .where('api_key_id', '=', key.apiKeyId)
        .where('key', '=', key.key)
        .execute();
    }).catch(() => {});
    return sandbox;
  }

  #row(key: IdempotencyKey) {
    return this.#db
      .deleteFrom('idempotency_keys')
      .where('api_key_id', '=', key.apiKeyId)
      .where('key', '=', key.key);
  }
}

function mismatch(key: IdempotencyKey): PerchError {
  return new PerchError(
    'idempotency_mismatch',
    `The Idempotency-Key "${key.key}" was used for a different request.`,
    { key: key.key },
  );
}

/** JSON with sorted keys: the same request has the same text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
