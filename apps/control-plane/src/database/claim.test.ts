import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { sql } from 'kysely';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { ConfigError, StartError } from '../config/index.ts';
import { databaseOwner } from '../database-owner.ts';
import { readablePrograms } from '../testing/postgres-programs.ts';
import { sharedSession } from '../testing/shared-session.ts';
import { claimDatabase, lockKey, refuseOthersSandboxes } from './claim.ts';
import { connect, type Database } from './connect.ts';
import { EmbeddedPostgres } from './embedded-postgres.ts';
import { migrate } from './migrations.ts';

const log = pino({ level: 'silent' });
const stack = new AsyncDisposableStack();
let server: EmbeddedPostgres;
let connectionString: string;
let database: Database;

beforeAll(async () => {
  const controlDir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  stack.defer(() => rm(controlDir, { recursive: true }));
  await chmod(controlDir, 0o755);
  const programs = stack.use(await readablePrograms());
  const owner = await databaseOwner();
  server = stack.use(await EmbeddedPostgres.start({ controlDir, postgresDir: programs.dir, owner, log }));
  connectionString = `postgres://perch@localhost/postgres?host=${encodeURIComponent(server.address.host)}`;
  database = connect({ connectionString }, log);
  stack.defer(() => database.destroy());
  await migrate(database);
}, 60_000);
afterAll(() => stack.disposeAsync());
/** A session that has ended has its lock until its server has seen that. */
beforeEach(() => expect.poll(holders).toEqual([]));

const claim = (withinMs: number, onLost: (error: Error) => void = () => {}) =>
  claimDatabase({ connectionString, log, onLost, withinMs });

/** Pids of the sessions that hold the lock. */
async function holders(): Promise<number[]> {
  const { rows } = await sql<{
    pid: number;
  }>`SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted`.execute(database);
  return rows.map(({ pid }) => pid);
}

async function waiting(): Promise<number> {
  const { rows } = await sql`SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`.execute(
    database,
  );
  return rows.length;
}

/** Ends the sessions that hold the lock, as a server that is started again does. */
async function cut(): Promise<void> {
  for (const pid of await holders()) await sql`SELECT pg_terminate_backend(${pid})`.execute(database);
}

test('a database that another works on is refused, and free again when that one has ended', async () => {
  await using stack = new AsyncDisposableStack();
  const first = await claim(0);
  const refusal = claim(0).catch((error: unknown) => error);
  expect(await refusal).toBeInstanceOf(ConfigError);
  expect(String(await refusal)).toContain('database of its own');
  const waiting = claim(10_000);
  await first[Symbol.asyncDispose]();
  stack.use(await waiting);
  expect(await holders()).toHaveLength(1);
});

test('a session that breaks is followed by another', async () => {
  const onLost = vi.fn();
  await using _ = await claim(0, onLost);
  const before = await holders();
  await cut();
  const others = async () => (await holders()).filter((pid) => !before.includes(pid));
  await expect.poll(others).toHaveLength(1);
  expect(onLost).not.toHaveBeenCalled();
});

test('who finds the database taken afterwards is told', async () => {
  const lost = Promise.withResolvers<Error>();
  await using _one = await claim(0, lost.resolve);
  await database.connection().execute(async (other) => {
    // Who waits in the server gets it the moment that it is free.
    const taking = sql`SELECT pg_advisory_lock(${lockKey})`.execute(other);
    await expect.poll(() => waiting()).toBe(1);
    await cut();
    await taking;
    expect(await lost.promise).toBeInstanceOf(ConfigError);
    await sql`SELECT pg_advisory_unlock(${lockKey})`.execute(other);
  });
});

test('a pooler that gives one session to all who ask is refused', async () => {
  const { host } = server.address;
  await using pooler = await sharedSession(host, { user: 'perch', database: 'postgres' });
  const refusal: unknown = await claimDatabase({
    connectionString: `postgres://perch@127.0.0.1:${pooler.port}/postgres`,
    log,
    onLost: () => {},
  }).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(ConfigError);
  expect(String(refusal)).toContain('pooler that shares sessions');
});

test('a server that is not there is told without the password, and may come back', async () => {
  const gone = connectionString.replace('perch@', 'perch:hunter2@').replace(/host=.*/, 'host=%2Fnonexistent');
  const refusal: unknown = await claimDatabase({ connectionString: gone, log, onLost: () => {} }).catch(
    (error: unknown) => error,
  );
  expect(refusal).toBeInstanceOf(StartError);
  const { message, cause } = refusal as StartError;
  expect(`${message}: ${(cause as Error).message}`).toMatch(
    /DATABASE_URL does not take perchd: .*\/nonexistent/,
  );
  expect(inspect(refusal)).not.toContain('hunter2');
});

test('sandboxes of another Perch are refused until they are destroyed', async () => {
  const row = {
    ...{ id: 'sb000000000000000001', status: 'running' as const, template: 'base', host_id: 'theirs' },
    ...{ vcpus: 1, memory_mb: 128, disk_mb: 1024, timeout_sec: 300, timeout_mode: 'idle' as const },
    ...{ on_timeout: 'destroy' as const, auto_resume: false },
    ...{ metadata: '{}', generation: 1, access_token: '', created_at: new Date() },
  };
  await database.insertInto('sandboxes').values(row).execute();
  await refuseOthersSandboxes(database, ['other', 'theirs']);
  const refusal = refuseOthersSandboxes(database, ['ours']);
  await expect(refusal).rejects.toThrow(ConfigError);
  await expect(refusal).rejects.toThrow(/1 sandboxes of the Perch instance theirs, and this is ours/);
  await database.updateTable('sandboxes').set({ status: 'destroyed' }).execute();
  await refuseOthersSandboxes(database, ['ours']);
});
