/**
 * PostgreSQL as a child of perchd: on a unix socket only, with fsync on. It ends with perchd, by a
 * parent-death signal also when perchd is killed, and is started again when it dies.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseAddress } from './connect.ts';
import { ensureCluster, findPrograms, type Owner, privateDir, socketDir } from './postgres-files.ts';
import { serversOf } from './server-processes.ts';

export interface PostgresOptions {
  controlDir: string;
  postgresDir: string | undefined;
  owner: Owner | undefined;
  log: Logger;
}

const readyWithinMs = 120_000;
const stopWithinMs = 10_000;

const settings = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '30',
  shared_buffers: '32MB',
  min_wal_size: '32MB',
  max_wal_size: '256MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_parallel_workers: '0',
  jit: 'off',
  logging_collector: 'off',
  log_destination: 'stderr',
  log_line_prefix: '',
  log_min_messages: 'warning',
  log_min_error_statement: 'panic',
  TimeZone: 'UTC',
};

export class EmbeddedPostgres implements AsyncDisposable {
  readonly address: DatabaseAddress & { host: string };
  readonly #options: PostgresOptions;
  readonly #native: string;
  readonly #dataDir: string;
  #child: ChildProcess | undefined;
  #stopping = false;

  private constructor(options: PostgresOptions, native: string) {
    this.#options = options;
    this.#native = native;
    this.#dataDir = join(options.controlDir, 'postgres');
    this.address = { host: socketDir(options.controlDir), user: 'perch', database: 'postgres' };
  }

  /** Resolves when it answers queries. */
  static async start(options: PostgresOptions): Promise<EmbeddedPostgres> {
    const server = new EmbeddedPostgres(options, await findPrograms(options.postgresDir));
    await privateDir(options.controlDir, options.owner);
    await privateDir(server.address.host, options.owner);
    await ensureCluster(server.#dataDir, (directory) => server.#initdb(directory));
    try {
      await server.#launch();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** Of the postmaster; undefined while it is down. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
      child.kill(signal);
      if (await Promise.race([exited.then(() => true), sleep(stopWithinMs, false, { ref: false })])) return;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #launch(): Promise<void> {
    await stopOrphans(this.#dataDir, this.#options.log);
    await this.#dropLocks();
    if (this.#stopping) throw new Error('PostgreSQL is being stopped');
    const args = ['-D', this.#dataDir, '-c', `unix_socket_directories=${this.address.host}`];
    for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`);
    const child = this.#spawn('postgres', args);
    this.#child = child;
    child.once('exit', (code, signal) => this.#exited(child, code, signal));
    await this.#ready(child);
  }

  /**
   * No server works here. The process that its lock files name has ended, and the number may be another's by now; one that is
   * empty, as a power cut leaves it, would be taken for that of a server about to start.
   */
  async #dropLocks(): Promise<void> {
    const socketLock = join(this.address.host, '.s.PGSQL.5432.lock');
    for (const lock of [join(this.#dataDir, 'postmaster.pid'), socketLock]) await rm(lock, { force: true });
  }

  #exited(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#child === child) this.#child = undefined;
    if (this.#stopping) return;
    this.#options.log.error({ code, signal }, 'PostgreSQL ended; starting it again');
    void this.#restart(200);
  }

  async #restart(delayMs: number): Promise<void> {
    await sleep(delayMs, undefined, { ref: false });
    if (this.#stopping || this.#child) return;
    try {
      await this.#launch();
      this.#options.log.info('PostgreSQL answers again');
    } catch (error) {
      if (this.#stopping) return;
      this.#options.log.error({ err: error }, 'PostgreSQL did not start; trying again');
      if (!this.#child) void this.#restart(Math.min(delayMs * 2, 5_000));
    }
  }

  async #ready(child: ChildProcess): Promise<void> {
    const deadline = Date.now() + readyWithinMs;
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`PostgreSQL ended while starting (${child.exitCode ?? child.signalCode})`);
      }
      const client = new pg.Client({ ...this.address, connectionTimeoutMillis: 1_000 });
      client.on('error', () => {});
      try {
        await client.connect();
        await client.query('SELECT 1');
        return;
      } catch (cause) {
        if (Date.now() > deadline) throw new Error('PostgreSQL does not answer', { cause });
      } finally {
        await client.end().catch(() => {});
      }
      await sleep(20);
    }
  }

  async #initdb(directory: string): Promise<void> {
    this.#options.log.info({ directory }, 'making the database');
    const child = this.#spawn('initdb', [
      ...['-D', directory, '--username=perch', '--encoding=UTF8', '--locale=C', '--no-instructions'],
      // Whoever reaches the socket is perchd's own user or root: its directory is 0700.
      ...['--auth-local=trust', '--auth-host=reject'],
    ]);
    const [code] = (await once(child, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`initdb failed with code ${code}; the log has its words`);
  }

  /** Runs as the owner, with a clean environment: perchd's own holds a key. */
  #spawn(program: 'postgres' | 'initdb', args: string[]): ChildProcess {
    const { owner, log } = this.#options;
    const as = owner ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'] : [];
    const path = join(this.#native, 'bin', program);
    const child = spawn('setpriv', [...as, '--pdeathsig=INT', '--', path, ...args], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.on('error', (error) => log.error({ err: error }, `cannot run ${program}`));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        const level = /^(FATAL|PANIC|ERROR|WARNING)/.test(line) ? 'warn' : 'debug';
        log[level]({ postgres: line }, program);
      });
    }
    return child;
  }
}

/**
 * Ends a server that an earlier perchd left: the caller holds the lock of the state directory, so that
 * no living perchd owns it. Children of a killed postmaster end by themselves; they are waited for.
 */
async function stopOrphans(dataDir: string, log: Logger): Promise<void> {
  const signals = ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const;
  for (const signal of signals) {
    const deadline = Date.now() + stopWithinMs;
    let told = false;
    for (;;) {
      const left = await serversOf(dataDir);
      if (left.length === 0) return;
      if (!told) {
        const postmaster = await lockHolder(dataDir);
        log.warn({ pids: left, signal }, 'stopping a PostgreSQL that an earlier perchd left');
        const targets = postmaster && left.includes(postmaster) ? [postmaster] : left;
        for (const pid of signal === 'SIGKILL' ? left : targets) kill(pid, signal);
        told = true;
      }
      if (Date.now() > deadline) break;
      await sleep(50);
    }
  }
  throw new Error(`a PostgreSQL that an earlier perchd left in ${dataDir} cannot be stopped`);
}

async function lockHolder(dataDir: string): Promise<number | undefined> {
  const text = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => undefined);
  const pid = Number(text?.split('\n')[0]);
  return Number.isInteger(pid) && pid > 1 ? pid : undefined;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}
