import { PerchError, type SandboxStatus, type TimeoutMode } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';

/**
 * One life of a sandbox, (id, generation), as perchd holds it in memory: what a request needs without asking
 * the database. It ends once; whatever was opened for it hangs on `signal`.
 */
export class Life {
  readonly id: string;
  readonly generation: number;
  readonly accessToken: string;
  readonly timeoutMode: TimeoutMode;
  status: SandboxStatus;
  reason: string | null;
  address: string | null;
  timeoutSec: number;
  lastActiveAt: Date | null;
  expiresAt: Date | null;
  /** Streams, commands and transfers that are open. */
  open = 0;
  readonly #end = new AbortController();

  constructor(row: SandboxRow) {
    this.id = row.id;
    this.generation = row.generation;
    this.accessToken = row.access_token;
    this.timeoutMode = row.timeout_mode;
    this.timeoutSec = row.timeout_sec;
    this.status = row.status;
    this.reason = row.reason;
    this.address = row.host_ip;
    this.lastActiveAt = row.last_active_at;
    this.expiresAt = row.expires_at;
  }

  /** Aborts when the life ends, with the error that its users get. */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  /** Takes over what the database holds now, and ends the life when it no longer runs. */
  apply(row: SandboxRow): void {
    this.status = row.status;
    this.reason = row.reason;
    this.address = row.host_ip;
    this.timeoutSec = row.timeout_sec;
    this.lastActiveAt = row.last_active_at;
    this.expiresAt = row.expires_at;
    if (['failed', 'destroying', 'destroyed'].includes(row.status)) this.#end.abort(this.refusal());
  }

  /** End of life as of now: what is open gives an idle sandbox its full time again. */
  deadline(): Date | null {
    if (this.open === 0 || this.timeoutMode === 'fixed' || this.status !== 'running') return this.expiresAt;
    return new Date(Date.now() + this.timeoutSec * 1000);
  }

  /** Why nothing can be done in it now. */
  refusal(): PerchError {
    return refusalOf(this.id, this.status, this.reason);
  }
}

export function refusalOf(id: string, status: SandboxStatus, reason: string | null): PerchError {
  if (status === 'failed') {
    const why = reason ?? 'unknown reason';
    return new PerchError('sandbox_failed', `Sandbox ${id} failed: ${why}`, { id, reason: why });
  }
  return new PerchError('sandbox_not_running', `Sandbox ${id} is ${status}, not running.`, { id, status });
}
