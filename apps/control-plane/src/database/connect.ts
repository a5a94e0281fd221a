import { PerchError } from '@perch/protocol';
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import type { Tables } from './tables.ts';

export type Database = Kysely<Tables>;

/** Where the server is: a URL, or the socket directory of the embedded one. */
export type DatabaseAddress = { connectionString: string } | { host: string; user: string; database: string };

export function connect(address: DatabaseAddress, log: Logger): Database {
  const pool = new pg.Pool({
    ...address,
    application_name: 'perchd',
    max: 10,
    idleTimeoutMillis: 30_000,
    connectionTimeoutMillis: 5_000,
    query_timeout: 15_000,
    statement_timeout: 14_000,
  });
  // An idle connection that breaks is replaced at the next query; without a listener it would end perchd.
  pool.on('error', (error) => log.warn({ err: error.message }, 'a database connection broke'));
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: guard(pool) }) });
}

/** One place where a lost server becomes `database_unavailable`, for every query there is. */
function guard(pool: pg.Pool): PostgresPool {
  return {
    options: {},
    async connect(): Promise<PostgresPoolClient> {
      const client = await pool.connect().catch((error: unknown) => {
        throw translate(error);
      });
      let broken = false;
      // A connection that breaks in use tells it as an event too, beside the failed query.
      const onError = () => {
        broken = true;
      };
      client.on('error', onError);
      return {
        processID: undefined,
        async query(...args: unknown[]) {
          try {
            return await (client.query as (...args: unknown[]) => Promise<unknown>).apply(client, args);
          } catch (error) {
            const translated = translate(error);
            broken ||= translated !== error;
            throw translated;
          }
        },
        release() {
          client.off('error', onError);
          client.release(broken);
        },
      } as unknown as PostgresPoolClient;
    },
    end: () => pool.end(),
  } as unknown as PostgresPool;
}

function translate(error: unknown): unknown {
  if (!isUnavailable(error)) return error;
  return new PerchError('database_unavailable', 'The database cannot be reached.', {}, { cause: error });
}

const systemCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
]);

/** Classes 08 (connection), 57P (shutdown, start-up), 53300 (too many connections), 57014 (time-out). */
function isUnavailable(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && (systemCodes.has(code) || /^(08|57P|53300|57014)/.test(code))) return true;
  return (
    typeof message === 'string' &&
    /Connection terminated|timeout exceeded when trying to connect|Query read timeout|connection error and is not queryable|Client was closed/.test(
      message,
    )
  );
}
