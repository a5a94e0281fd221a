import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { apiKeyPattern, newApiKey, PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import type { Database } from '../database/index.ts';

/** Who asks. */
export interface Caller {
  keyId: string;
}

export interface KeyInfo {
  id: string;
  name: string;
  prefix: string;
  createdAt: Date;
  lastUsedAt: Date | null;
}

interface LoadedKey extends KeyInfo {
  hash: Buffer;
  /** The value of `lastUsedAt` in the database. */
  stored: Date | null;
}

const keyRegExp = new RegExp(apiKeyPattern);
/** Of what the key is, whatever its prefix. */
const digest = (key: string): Buffer => hash('sha256', key.replace(/^e2b_/, 'perch_'), 'buffer');

/**
 * API keys, held in memory so that a request costs one hash. perchd is the only writer: every change goes
 * to the database first.
 */
export class ApiKeys {
  readonly #db: Database;
  readonly #log: Logger;
  /** By the SHA-256 of the key, hex. */
  readonly #byHash = new Map<string, LoadedKey>();

  private constructor(db: Database, log: Logger) {
    this.#db = db;
    this.#log = log;
  }

  static async load(db: Database, log: Logger): Promise<ApiKeys> {
    const keys = new ApiKeys(db, log);
    for (const row of await db.selectFrom('api_keys').selectAll().execute()) {
      keys.#remember({
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        hash: row.hash,
        createdAt: row.created_at,
        lastUsedAt: row.last_used_at,
        stored: row.last_used_at,
      });
    }
    return keys;
  }

  get size(): number {
    return this.#byHash.size;
  }

  /** The caller of a valid key. A look-up by hash tells nothing of a key by its time. */
  verify(key: unknown): Caller | undefined {
    if (typeof key !== 'string' || !keyRegExp.test(key)) return undefined;
    const presented = digest(key);
    const known = this.#byHash.get(presented.toString('hex'));
    if (!known || !timingSafeEqual(known.hash, presented)) return undefined;
    known.lastUsedAt = new Date();
    return { keyId: known.id };
  }

  /** True while the key has not been removed; for what outlives its request. */
  isValid(keyId: string): boolean {
    return this.list().some((key) => key.id === keyId);
  }

  list(): KeyInfo[] {
    return [...this.#byHash.values()].sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime());
  }

  /** Makes a key; its text is returned this once. */
  async create(name: string): Promise<{ info: KeyInfo; key: string }> {
    const key = newApiKey();
    return { info: await this.add(name, key), key };
  }

  /** Adds a key whose text is given; one that is there stays as it is. */
  async add(name: string, key: string): Promise<KeyInfo> {
    const hashed = digest(key);
    const known = this.#byHash.get(hashed.toString('hex'));
    if (known) return known;
    const loaded: LoadedKey = {
      id: `key${randomBytes(8).toString('hex')}`,
      name,
      prefix: key.slice(0, 12),
      hash: hashed,
      createdAt: new Date(),
      lastUsedAt: null,
      stored: null,
    };
    await this.#db
      .insertInto('api_keys')
      .values({
        id: loaded.id,
        name,
        prefix: loaded.prefix,
        hash: hashed,
        created_at: loaded.createdAt,
      })
      .execute();
    this.#remember(loaded);
    return loaded;
  }

  /** The last key stays: without one nobody could make another. */
  async remove(id: string): Promise<void> {
    const entry = [...this.#byHash].find(([, key]) => key.id === id);
    if (!entry) throw new PerchError('api_key_not_found', `No API key "${id}".`, { id });
    if (this.#byHash.size === 1) {
      throw new PerchError('last_api_key', 'The last API key cannot be deleted.', { id });
    }
    // Out of memory first: a key that someone deletes stops working at once.
    this.#byHash.delete(entry[0]);
    try {
      await this.#db.deleteFrom('api_keys').where('id', '=', id).execute();
    } catch (error) {
      this.#byHash.set(entry[0], entry[1]);
      throw error;
    }
  }

  /** Writes the times of use that changed. */
  async flush(): Promise<void> {
    for (const key of this.#byHash.values()) {
      const { lastUsedAt } = key;
      if (!lastUsedAt || lastUsedAt === key.stored) continue;
      try {
        await this.#db
          .updateTable('api_keys')
          .set({ last_used_at: lastUsedAt })
          .where('id', '=', key.id)
          .execute();
        key.stored = lastUsedAt;
      } catch (error) {
        this.#log.debug({ err: error }, 'the time of use of a key was not stored');
        return;
      }
    }
  }

  #remember(key: LoadedKey): void {
    this.#byHash.set(key.hash.toString('hex'), key);
  }
}
