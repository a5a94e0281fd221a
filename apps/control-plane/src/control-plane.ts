/** Puts perchd together, and takes it apart in the reverse order. */
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGuestClient } from '@perch/guest-client';
import { defaultDomain, PerchError } from '@perch/protocol';
import type { FastifyInstance } from 'fastify';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import { ApiKeys, ensureFirstKey, Tickets } from './auth/index.ts';
import { type Config, StartError } from './config/index.ts';
import {
  claimDatabase,
  connect,
  type DatabaseAddress,
  EmbeddedPostgres,
  migrate,
  privateDir,
  refuseOthersSandboxes,
} from './database/index.ts';
import { databaseOwner } from './database-owner.ts';
import { e2b } from './e2b/index.ts';
import { Edge } from './edge/index.ts';
import { askGuests } from './exec/index.ts';
import { failpoint } from './failpoints/index.ts';
import { Spool } from './files/index.ts';
import { type Connect, GuestPool } from './guests/index.ts';
import { Hosts } from './hosts/index.ts';
import { CertificateFile, createServer, Limits, type Services } from './http/index.ts';
import { lockDirectory } from './lock.ts';
import { Metrics } from './metrics/index.ts';
import { NameServer } from './names/index.ts';
import { Reconciler } from './reconciler/index.ts';
import { ActivityTracker, Idempotency, SandboxRepository, SandboxService } from './sandboxes/index.ts';
import { Snapshots } from './snapshots/index.ts';
import { v1 } from './v1/index.ts';

export interface ControlPlane extends AsyncDisposable {
  /** Where it listens, such as `http://127.0.0.1:7070`. */
  url: string;
  /** Of the embedded database's postmaster. */
  postgresPid(): number | undefined;
}

/** Time that requests get to end at a shutdown, ms. */
const graceMs = 10_000;
const purgeEveryMs = 3600 * 1000;
const flushKeysEveryMs = 60_000;

export async function startControlPlane(
  config: Config,
  log: Logger,
  connectGuest: Connect = createGuestClient,
): Promise<ControlPlane> {
  await using stack = new AsyncDisposableStack();
  const owner = await databaseOwner();
  await privateDir(config.controlDir, owner);
  stack.use(lockDirectory(config.controlDir));

  let postgres: EmbeddedPostgres | undefined;
  let address: DatabaseAddress;
  if (config.databaseUrl === undefined) {
    postgres = stack.use(
      await EmbeddedPostgres.start({
        controlDir: config.controlDir,
        postgresDir: config.postgresDir,
        owner,
        log,
      }),
    );
    address = postgres.address;
  } else {
    address = { connectionString: config.databaseUrl };
    stack.use(await claimDatabase({ ...address, log, onLost: stopBecause(log) }));
  }
  const database = connect(address, log);
  stack.defer(() => database.destroy());
  await migrate(database);
  if (config.databaseUrl !== undefined && config.instance !== undefined) {
    await refuseOthersSandboxes(
      database,
      config.hosts.map(({ id }) => id),
    );
  }

  const keys = await ApiKeys.load(database, log);
  stack.defer(() => keys.flush());
  await ensureFirstKey(keys, config.firstApiKey, config.controlDir);

  const hosts = stack.use(new Hosts(config.hosts));
  const repository = new SandboxRepository(database);
  const idempotency = new Idempotency(database);
  const metrics = new Metrics();
  const activity = stack.use(new ActivityTracker(repository, log));
  const shutdown = new AbortController();
  const guests = new GuestPool(connectGuest, config.guestPort);
  const lastCommand = askGuests(guests, shutdown.signal, log);
  const sandboxes = stack.use(
    new SandboxService({ repository, idempotency, activity, hosts, metrics, lastCommand, log }),
  );
  await sandboxes.load();
  failpoint('start.loaded');
  activity.start();
  stack.use(guests);
  const reconcilers = hosts.all().map((host) => stack.use(new Reconciler(host, sandboxes, log)));

  const up = (answer: Promise<unknown>) =>
    answer.then(
      () => 1,
      () => 0,
    );
  metrics.watch({
    sandboxes: () => sandboxes.counts(),
    hostUp: () => up(hosts.place.directory.info()),
    databaseUp: () => up(sql`SELECT 1`.execute(database)),
  });

  const certificate = new CertificateFile(config.tlsDir, log);
  const services: Services = {
    database,
    domain: () => config.domain ?? certificate.domain ?? defaultDomain,
    publicUrl: config.publicUrl,
    guests,
    hosts,
    keys,
    limits: new Limits(config.rateLimit),
    log,
    metrics,
    sandboxes,
    shutdown: shutdown.signal,
    snapshots: new Snapshots(hosts),
    spool: await Spool.open(join(config.controlDir, 'uploads')),
    tickets: new Tickets(),
  };
  const server = await createServer(services, [v1, e2b], new Edge(services), certificate);
  stack.defer(async () => {
    shutdown.abort(new PerchError('shutting_down', 'perchd is shutting down.', {}));
    const closed = server.close();
    // A connection whose last request ends now would wait for another one.
    const sweep = setInterval(() => server.server.closeIdleConnections(), 50);
    const late = await Promise.race([closed, sleep(graceMs, 'late', { ref: false })]);
    if (late === 'late') {
      log.warn('cutting requests that did not end');
      server.server.closeAllConnections();
      server.listener.cut();
      await closed;
    }
    clearInterval(sweep);
  });
  const addresses = await listen(server, config.listen, log);
  if (config.domainDns) {
    const zone = () => ({ domain: services.domain(), addresses });
    stack.use(await startNameServer(config.domainDns, zone, log));
  }
  for (const reconciler of reconcilers) reconciler.start();
  stack.use(every(purgeEveryMs, () => sandboxes.purge(), log));
  stack.use(every(flushKeysEveryMs, () => keys.flush(), log));

  const { port } = server.server.address() as AddressInfo;
  const name = config.listen.host.includes(':') ? `[${config.listen.host}]` : config.listen.host;
  const running = stack.move();
  return {
    url: `http://${name}:${port}`,
    postgresPid: () => postgres?.pid,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/**
 * Names below `localhost` are both addresses of the loopback, and some programs try only the one of IPv6. A machine
 * without IPv6 has none.
 * @returns addresses by which this machine gets there
 */
async function listen(server: FastifyInstance, at: Config['listen'], log: Logger): Promise<string[]> {
  const { host } = at;
  const loopback = host === 'localhost' || host === '127.0.0.1';
  await server.listen(loopback ? { ...at, host: '127.0.0.1' } : at);
  // The host may be a name.
  const { address } = server.server.address() as AddressInfo;
  if (address === '::') return ['127.0.0.1', '::1'];
  if (!loopback) return [address === '0.0.0.0' ? '127.0.0.1' : address];
  try {
    await server.listener.alsoListen('::1');
    return ['127.0.0.1', '::1'];
  } catch (error) {
    log.warn({ err: error }, 'perchd does not listen on ::1');
    return ['127.0.0.1'];
  }
}

async function startNameServer(
  at: NonNullable<Config['domainDns']>,
  zone: Parameters<typeof NameServer.start>[1],
  log: Logger,
): Promise<NameServer> {
  try {
    return await NameServer.start(at, zone, log);
  } catch (cause) {
    throw new StartError(`PERCH_DOMAIN_DNS is ${at.host}:${at.port}, which cannot be listened on.`, {
      cause,
    });
  }
}

/** A process that goes on would write over the rows of another. */
function stopBecause(log: Logger): (error: Error) => void {
  return (error) => {
    log.fatal({ err: error }, 'perchd stops');
    process.exitCode = 1;
    process.kill(process.pid, 'SIGTERM');
  };
}

function every(ms: number, work: () => Promise<void>, log: Logger): Disposable {
  const timer = setInterval(() => {
    work().catch((error: unknown) => log.warn({ err: error }, 'housekeeping failed; trying again later'));
  }, ms);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
