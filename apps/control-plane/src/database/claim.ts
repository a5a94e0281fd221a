/**
 * One perchd on one database. It is the only writer, and what it does not find on its host it takes for lost: a
 * second one would end the sandboxes of the first. A session that does nothing else holds an advisory lock, which
 * ends with the process.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import { ConfigError, StartError } from '../config/index.ts';
import type { Database } from './connect.ts';

export interface ClaimOptions {
  connectionString: string;
  log: Logger;
  /** Told when another perchd took the database while its server was away. */
  onLost: (error: Error) => void;
  /** How long the session of one that has just ended may still be there, ms. */
  withinMs?: number;
}

/** `perch` in ASCII. An advisory lock is of one database. */
export const lockKey = 0x70_65_72_63_68;
const tryLock = 'SELECT pg_try_advisory_lock($1) AS ours';
const pollMs = 200;
/** A server drops the session of a machine that has gone after half a minute. */
const dropTheDead =
  'SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4';

/**
 * Holds the database until it is disposed of.
 * @throws ConfigError when another perchd has it, or none can have it alone; StartError when its server does not take us
 */
export async function claimDatabase(options: ClaimOptions): Promise<AsyncDisposable> {
  const claim = new Claim(options);
  try {
    await claim.take();
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    // The log puts the reason behind it.
    throw new StartError('the database of DATABASE_URL does not take perchd', {
      cause: new Error(reasonOf(error)),
    });
  }
  return claim;
}

/** @throws ConfigError when the database holds sandboxes of another Perch, which may be stopped just now */
export async function refuseOthersSandboxes(db: Database, hosts: readonly string[]): Promise<void> {
  const [other] = await db
    .selectFrom('sandboxes')
    .select(['host_id', ({ fn }) => fn.countAll<string>().as('count')])
    .where('status', '<>', 'destroyed')
    .where('host_id', 'not in', hosts)
    .groupBy('host_id')
    .execute();
  if (!other) return;
  throw new ConfigError(
    `the database of DATABASE_URL holds ${other.count} sandboxes of the Perch instance ${other.host_id}, and this is ` +
      `${hosts.join(', ')}: give each Perch a database of its own; when that one is gone for good, ` +
      `DELETE FROM sandboxes WHERE host_id = '${other.host_id}'`,
  );
}

class Claim implements AsyncDisposable {
  readonly #options: ClaimOptions;
  #session: pg.Client | undefined;
  #stopped = false;

  constructor(options: ClaimOptions) {
    this.#options = options;
  }

  async take(): Promise<void> {
    const { withinMs = 5_000 } = this.#options;
    for (const until = performance.now() + withinMs; !(await this.#try()); await sleep(pollMs)) {
      if (this.#stopped) return;
      if (performance.now() < until) continue;
      throw new ConfigError(
        'another perchd works on the database of DATABASE_URL: give each Perch a database of its own',
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#session?.end();
  }

  /** @returns whether the lock is ours now */
  async #try(): Promise<boolean> {
    const session = this.#newSession();
    let ended = false;
    session.once('end', () => {
      ended = true;
      if (this.#session === session) void this.#takeAgain();
    });
    await session.connect();
    try {
      await session.query(dropTheDead);
      const { rows } = await session.query<{ ours: boolean }>(tryLock, [lockKey]);
      if (rows[0]?.ours) await this.#refuseSharedSessions(session);
      if (!rows[0]?.ours || this.#stopped || ended) {
        await session.end();
        return false;
      }
    } catch (error) {
      await session.end().catch(() => {});
      throw error;
    }
    this.#session = session;
    return true;
  }

  /** A pooler that gives our lock to another session as well, as one of transactions does, holds nothing. */
  async #refuseSharedSessions(session: pg.Client): Promise<void> {
    const second = this.#newSession();
    try {
      await second.connect();
      const { rows } = await second.query<{ ours: boolean }>(tryLock, [lockKey]);
      if (!rows[0]?.ours) return;
      // Of a session that broke meanwhile the lock was free.
      await session.query('SELECT');
    } finally {
      await second.end().catch(() => {});
    }
    throw new ConfigError(
      'DATABASE_URL leads to a pooler that shares sessions, so no perchd can hold the database for itself: name the ' +
        'server itself, or pool sessions instead of transactions (PgBouncer: pool_mode = session)',
    );
  }

  #newSession(): pg.Client {
    const session = new pg.Client({
      connectionString: this.#options.connectionString,
      application_name: 'perchd, the only one',
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
    });
    // The end that follows is what counts.
    session.on('error', () => {});
    return session;
  }

  /** The session broke, as when the server was started again: whoever is first has the database. */
  async #takeAgain(): Promise<void> {
    this.#session = undefined;
    while (!this.#stopped) {
      try {
        return await this.take();
      } catch (error) {
        if (error instanceof ConfigError) return this.#options.onLost(error);
        this.#options.log.debug({ err: error }, 'the database cannot be held; trying again');
        await sleep(pollMs, undefined, { ref: false });
      }
    }
  }
}

/** Of a name with several addresses, the reasons of all of them. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
