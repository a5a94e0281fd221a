import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError, type Sandbox } from '@perch/protocol';
import type { Database } from '../database/index.ts';
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
export type Unanswered = 'pending' | 'gone' | Sandbox;

interface Making {
  make: () => Promise<Sandbox>;
  /** As it is now; undefined when it is forgotten. */
  present: (sandboxId: string) => Promise<Sandbox | undefined>;
  unanswered: (sandboxId: string) => Promise<Unanswered>;
}

/**
 * Sandboxes by `Idempotency-Key`. A repeat gets the sandbox of the first request as it is now, and once it is
 * forgotten the first answer. Only a success is kept: after an error the same key may try again.
 */
export class Idempotency {
  readonly #db: Database;
  readonly #running = new Map<string, { digest: string; answer: Promise<Sandbox> }>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** The sandbox of this key, made by `make` if there is none. Repeats that come meanwhile share its answer. */
  once(key: IdempotencyKey, request: object, how: Making): Promise<Sandbox> {
    const digest = hash('sha256', canonical(request), 'hex');
    const tag = `${key.apiKeyId} ${key.key}`;
    const running = this.#running.get(tag);
    if (running) {
      return running.digest === digest ? running.answer : Promise.reject(mismatch(key));
    }
    const answer = this.#first(key, digest, how).finally(() => this.#running.delete(tag));
    this.#running.set(tag, { digest, answer });
    return answer;
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

  async #first(key: IdempotencyKey, digest: string, how: Making): Promise<Sandbox> {
    const deadline = Date.now() + waitMs;
    while (!(await this.#reserve(key, digest))) {
      const row = await this.#find(key);
      if (!row) continue;
      if (!row.request_hash.equals(Buffer.from(digest, 'hex'))) throw mismatch(key);
      if (row.answer) return (await how.present(row.sandbox_id)) ?? (row.answer as Sandbox);
      const standing = await how.unanswered(row.sandbox_id);
      if (standing === 'gone') await this.#release(key);
      else if (standing !== 'pending') return this.#complete(key, standing);
      else if (Date.now() > deadline) {
        throw new PerchError('host_unavailable', 'The first request with this Idempotency-Key is not done.', {
          host_id: 'local',
        });
      } else await sleep(200);
    }
    failpoint('create.reserved');
    let answer: Sandbox;
    try {
      answer = await how.make();
    } catch (error) {
      await persist(() => this.#release(key)).catch(() => {});
      throw error;
    }
    return this.#complete(key, answer);
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
        answer: null,
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

  async #release(key: IdempotencyKey): Promise<void> {
    await this.#row(key).where('answer', 'is', null).execute();
  }

  /** An answer that could not be stored is given all the same: a repeat finds the sandbox by its id. */
  async #complete(key: IdempotencyKey, answer: Sandbox): Promise<Sandbox> {
    await persist(async () => {
      await this.#db
        .updateTable('idempotency_keys')
        .set({ answer: JSON.stringify(answer) })
        .where('api_key_id', '=', key.apiKeyId)
        .where('key', '=', key.key)
        .execute();
    }).catch(() => {});
    return answer;
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
