import { type OnTimeout, PerchError, type SandboxStatus, type TimeoutMode } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';

/** Statuses in which nothing that was opened for a life stays open. */
const over: ReadonlySet<SandboxStatus> = new Set(['paused', 'resuming', 'failed', 'destroying', 'destroyed']);

/** Statuses in which no time runs. */
const timeless: ReadonlySet<SandboxStatus> = new Set(['pausing', 'paused', 'resuming']);

/**
 * One life of a sandbox, (id, generation), as perchd holds it in memory: what a request needs without asking
 * the database. It ends once; whatever was opened for it hangs on `signal`. The next life is another
 * object. A pause ends it when it is done: until then the guest may run on, and with it what it was asked for.
 */
export class Life {
  readonly id: string;
  readonly hostId: string;
  readonly generation: number;
  readonly accessToken: string;
  /** Of the sandbox, in all its lives. */
  readonly edgeToken: string;
  readonly trafficToken: string | null;
  readonly maskHost: string | null;
  readonly timeoutMode: TimeoutMode;
  readonly onTimeout: OnTimeout;
  readonly pauseMemory: boolean;
  readonly autoResume: boolean;
  readonly memoryMb: number;
  readonly diskMb: number;
  status: SandboxStatus;
  reason: string | null;
  address: string | null;
  timeoutSec: number;
  lastActiveAt: Date | null;
  expiresAt: Date | null;
  nextAccessToken: string | null;
  /** Whether the last pause kept the memory. */
  pausedMemory: boolean;
  /** Streams, commands and transfers that are open. */
  open = 0;
  /** How often the end of its time could not pause it since it was last used. */
  pauseTries = 0;
  /** How often its guest did not say what it runs since it was last used. */
  silences = 0;
  readonly #end = new AbortController();

  constructor(row: SandboxRow) {
    this.id = row.id;
    this.hostId = row.host_id;
    this.generation = row.generation;
    this.accessToken = row.access_token;
    this.edgeToken = row.edge_token;
    this.trafficToken = row.traffic_token;
    this.maskHost = row.mask_host;
    this.timeoutMode = row.timeout_mode;
    this.onTimeout = row.on_timeout;
    this.pauseMemory = row.pause_memory;
    this.autoResume = row.auto_resume;
    this.memoryMb = row.memory_mb;
    this.diskMb = row.disk_mb;
    this.timeoutSec = row.timeout_sec;
    this.status = row.status;
    this.reason = row.reason;
    this.address = row.host_ip;
    this.lastActiveAt = row.last_active_at;
    this.expiresAt = row.expires_at;
    this.nextAccessToken = row.next_access_token;
    this.pausedMemory = row.paused_memory;
    this.#endIfOver();
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
    this.nextAccessToken = row.next_access_token;
    this.pausedMemory = row.paused_memory;
    this.#endIfOver();
  }

  /** It was used: what the end of its time has tried before counts no more. */
  forgetTries(): void {
    this.pauseTries = 0;
    this.silences = 0;
  }

  /** End of its time as of now: what is open gives an idle sandbox its full time again. */
  deadline(): Date | null {
    if (timeless.has(this.status)) return null;
    if (this.open === 0 || this.timeoutMode === 'fixed' || this.status !== 'running') return this.expiresAt;
    return new Date(Date.now() + this.timeoutSec * 1000);
  }

  /** Why nothing can be done in it now. */
  refusal(): PerchError {
    return refusalOf(this.id, this.status, this.reason);
  }

  #endIfOver(): void {
    if (over.has(this.status) && !this.#end.signal.aborted) this.#end.abort(this.refusal());
  }
}

/** Why nothing can be done in a sandbox that does not run. */
export function refusalOf(id: string, status: SandboxStatus, reason: string | null): PerchError {
  if (status === 'failed') return failure(id, reason);
  return new PerchError('sandbox_not_running', `Sandbox ${id} is ${status}, not running.`, { id, status });
}

/** Why a sandbox cannot be resumed. */
export function resumeRefusalOf(id: string, status: SandboxStatus, reason: string | null): PerchError {
  if (status === 'failed') return failure(id, reason);
  return new PerchError('sandbox_not_paused', `Sandbox ${id} is ${status}, not paused.`, { id, status });
}

function failure(id: string, reason: string | null): PerchError {
  const why = reason ?? 'unknown reason';
  return new PerchError('sandbox_failed', `Sandbox ${id} failed: ${why}`, { id, reason: why });
}
