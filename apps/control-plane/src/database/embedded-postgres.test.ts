import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { databaseOwner } from '../database-owner.ts';
import { readablePrograms } from '../testing/postgres-programs.ts';
import { connect, EmbeddedPostgres } from './index.ts';
import { socketDir } from './postgres-files.ts';
import { serversOf } from './server-processes.ts';

const log = pino({ level: 'silent' });
let programs: Awaited<ReturnType<typeof readablePrograms>>;
let dir: string;
beforeAll(async () => {
  programs = await readablePrograms();
  dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
  await chmod(dir, 0o755);
}, 60_000);
afterAll(async () => {
  await programs[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

const start = async () =>
  EmbeddedPostgres.start({
    controlDir: join(dir, 'control'),
    postgresDir: programs.dir,
    owner: await databaseOwner(),
    log,
  });

async function query(server: EmbeddedPostgres, text: string): Promise<unknown[]> {
  const db = connect(server.address, log);
  try {
    return (await sql.raw<object>(text).execute(db)).rows;
  } finally {
    await db.destroy();
  }
}

test('it makes its database once, keeps it, listens on no port, and syncs to disk', async () => {
  {
    await using server = await start();
    await query(server, 'CREATE TABLE kept (a int)');
    const settings = await query(
      server,
      "SELECT current_setting('listen_addresses') AS listen, current_setting('fsync') AS fsync",
    );
    expect(settings).toEqual([{ listen: '', fsync: 'on' }]);
  }
  await using again = await start();
  expect(await query(again, 'SELECT * FROM kept')).toEqual([]);
}, 60_000);

/** A server that works on its own: nobody starts it again. */
async function leftBehind(): Promise<ChildProcess> {
  const server = await start();
  await server.stop();
  const { uid, gid } = (await databaseOwner()) ?? {};
  const args = ['-D', join(dir, 'control/postgres'), '-c', 'listen_addresses='];
  const child = spawn(
    join(programs.dir, 'bin/postgres'),
    [...args, '-c', `unix_socket_directories=${server.address.host}`],
    { stdio: 'ignore', cwd: '/', ...(uid === undefined ? {} : { uid, gid }) },
  );
  await once(child, 'spawn');
  await expect.poll(() => serversOf(join(dir, 'control/postgres')), { timeout: 30_000 }).toContain(child.pid);
  return child;
}

test('one that an earlier perchd left behind is stopped first', async () => {
  const left = await leftBehind();
  const ended = once(left, 'exit');
  await using server = await start();
  await ended;
  const servers = await serversOf(join(dir, 'control/postgres'));
  expect(servers).not.toContain(left.pid);
  expect(servers).toContain(server.pid);
  expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
}, 60_000);

test('a lock file that is empty, or whose number was taken over by another process, is no obstacle', async () => {
  const first = await start();
  process.kill(first.pid ?? 0, 'SIGKILL');
  await first.stop();
  const path = join(dir, 'control', 'postgres', 'postmaster.pid');
  const ofSocket = join(first.address.host, '.s.PGSQL.5432.lock');
  for (const lock of [path, ofSocket]) await writeFile(lock, '');
  {
    await using server = await start();
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    process.kill(server.pid ?? 0, 'SIGKILL');
  }
  const other: ChildProcess = spawn('sleep', ['60']);
  await once(other, 'spawn');
  try {
    const text = await readFile(path, 'utf8').catch(() => '1\n');
    await writeFile(path, text.replace(/^\d+/, String(other.pid)));
    await using server = await start();
    expect(await query(server, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(other.exitCode).toBeNull();
  } finally {
    other.kill('SIGKILL');
  }
}, 60_000);

test('a socket directory that would be too long is put elsewhere', () => {
  expect(socketDir('/var/lib/perch/control')).toBe('/var/lib/perch/control/pg');
  const far = socketDir(`/${'d'.repeat(100)}/control`);
  expect(far).toMatch(/perch-pg-[0-9a-f]{16}$/);
  expect(far.length).toBeLessThan(80);
});

test('programs that are not there are named, with the settings that help', async () => {
  const missing = EmbeddedPostgres.start({
    controlDir: join(dir, 'control'),
    postgresDir: '/no/such',
    owner: undefined,
    log,
  });
  await expect(missing).rejects.toThrow(
    /no embedded PostgreSQL in \/no\/such: set PERCH_POSTGRES_DIR .* or DATABASE_URL/,
  );
});
