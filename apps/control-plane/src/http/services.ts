import type { Logger } from 'pino';
import type { ApiKeys, Tickets } from '../auth/index.ts';
import type { Database } from '../database/index.ts';
import type { Spool } from '../files/index.ts';
import type { GuestPool } from '../guests/index.ts';
import type { Hosts } from '../hosts/index.ts';
import type { Metrics } from '../metrics/index.ts';
import type { SandboxService } from '../sandboxes/index.ts';
import type { Snapshots } from '../snapshots/index.ts';
import type { Limits } from './limits.ts';

/** The services that fronts call. */
export interface Services {
  database: Database;
  /** Sandboxes have names below it. */
  domain: () => string;
  /** Where clients find this Perch when that is not where their requests come in. */
  publicUrl: URL | undefined;
  guests: GuestPool;
  hosts: Hosts;
  keys: ApiKeys;
  limits: Limits;
  log: Logger;
  metrics: Metrics;
  sandboxes: SandboxService;
  /** Aborts when perchd goes down: streams end, and no new request is taken. */
  shutdown: AbortSignal;
  snapshots: Snapshots;
  spool: Spool;
  tickets: Tickets;
}
