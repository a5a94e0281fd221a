import {
  type CreateSandbox,
  type ExecRequest,
  type ExecResult,
  type ForkResults,
  type ForkSandbox,
  isPerchError,
  type PauseSandbox,
  type ResumeSandbox,
  type Sandbox,
  type SandboxHistory,
  type SandboxList,
  type SandboxLogs,
  type SandboxStatus,
  type SandboxTransition,
} from '@perch/protocol';
import { Commands } from './commands.ts';
import { type ExecStart, ExecStream } from './exec/stream.ts';
import { Files } from './files.ts';
import type { Http, RequestOptions } from './http.ts';
import { itemsOf } from './pages.ts';
import { Ports } from './ports.ts';

export interface CreateOptions extends RequestOptions {
  /** The same key gives the same sandbox; by default each call has a new one. */
  idempotencyKey?: string;
}

export interface ListFilter {
  status?: SandboxStatus | SandboxStatus[] | undefined;
  metadata?: Record<string, string> | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** The first boot of a template on a machine without KVM is slow. */
const createTimeoutMs = 180_000;
/** A pause writes the guest's memory, which on a slow disk takes its time. */
const transitionTimeoutMs = 300_000;
/** Beyond the time that the command itself has. */
const execMarginMs = 30_000;
const execDefaultSec = 30;

export class Sandboxes {
  readonly commands: Commands;
  readonly files: Files;
  readonly ports: Ports;
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
    this.commands = new Commands(http);
    this.files = new Files(http);
    this.ports = new Ports(http);
  }

  /** Resolves when it runs. A connection that fails is tried again, and still makes one sandbox. */
  create(request: CreateSandbox = {}, options: CreateOptions = {}): Promise<Sandbox> {
    const { idempotencyKey = crypto.randomUUID(), ...rest } = options;
    return this.#http.json('POST', '/v1/sandboxes', {
      timeoutMs: createTimeoutMs,
      ...rest,
      json: request,
      headers: { 'idempotency-key': idempotencyKey },
      repeatable: true,
    });
  }

  /** One page, the newest first. Destroyed ones come only when `status` asks for them. */
  list(filter: ListFilter = {}, options: RequestOptions = {}): Promise<SandboxList> {
    const { status, metadata = {}, limit, cursor } = filter;
    const labels = Object.entries(metadata).map(([key, value]) => [`metadata.${key}`, value]);
    const query = {
      status: status && [status].flat().join(','),
      limit,
      cursor,
      ...Object.fromEntries(labels),
    };
    return this.#http.json('GET', '/v1/sandboxes', { ...options, query, repeatable: true });
  }

  /** All pages. */
  all(filter: Omit<ListFilter, 'cursor'> = {}, options: RequestOptions = {}): AsyncGenerator<Sandbox> {
    let limit = 1000;
    const page = (cursor?: string) => this.list({ limit, ...filter, cursor }, options);
    return itemsOf((cursor) =>
      page(cursor).catch((error: unknown) => {
        // An older Perch gives 100 at most, and refuses to be asked for more.
        if (limit === 100 || !isPerchError(error, 'validation_failed')) throw error;
        limit = 100;
        return page(cursor);
      }),
    );
  }

  get(id: string, options: RequestOptions = {}): Promise<Sandbox> {
    return this.#http.json('GET', at(id), { ...options, repeatable: true });
  }

  /** Resolves when nothing of it is left. */
  async delete(id: string, options: RequestOptions = {}): Promise<void> {
    await this.#http.done('DELETE', at(id), { ...options, repeatable: true });
  }

  /**
   * Resolves when it is paused: memory and disk are in files, and it holds nothing else. Connections to it end; commands
   * go on when it is resumed, and `commands.attach` follows them. It is paused also when nobody waits any more.
   * @param options with `memory: false`, only the disk is kept, and a resume boots the guest from it
   * @throws PerchError `sandbox_not_running` (already paused, too), `pause_failed`, `host_disk_full` and `capacity_exhausted` (it
   *   runs on), `cleanup_delayed` (it is still pausing)
   */
  pause(id: string, options: RequestOptions & PauseSandbox = {}): Promise<SandboxTransition> {
    const { memory, ...rest } = options;
    const json = memory === undefined ? {} : { json: { memory } };
    return this.#http.json('POST', `${at(id)}/pause`, { timeoutMs: transitionTimeoutMs, ...rest, ...json });
  }

  /**
   * Resolves when it runs again where it was, with its full time-out. It runs also when nobody waits any more.
   * @param options with `checkpoint`, it goes on from an earlier state of its history; with `memory: false`, the guest is
   *   booted from its disk, whatever was kept
   * @throws PerchError `sandbox_not_paused`, `checkpoint_not_found`, and `resume_failed`, `snapshot_damaged` and `capacity_exhausted` (it
   *   is still paused)
   */
  resume(id: string, options: RequestOptions & ResumeSandbox = {}): Promise<SandboxTransition> {
    const { checkpoint, memory, ...rest } = options;
    const isPlain = checkpoint === undefined && memory === undefined;
    const json = isPlain ? {} : { json: { checkpoint, memory } };
    return this.#http.json('POST', `${at(id)}/resume`, { timeoutMs: transitionTimeoutMs, ...rest, ...json });
  }

  /**
   * Resolves when each child runs or failed; the source is as before. A child has the memory, processes and disk
   * of the source, and an identity of its own.
   * @throws PerchError `sandbox_not_running`, `checkpoint_not_found`, `capacity_exhausted`, `host_disk_full`, `fork_failed`: there is
   *   no child
   */
  fork(id: string, request: ForkSandbox = {}, options: RequestOptions = {}): Promise<ForkResults> {
    return this.#http.json('POST', `${at(id)}/fork`, {
      timeoutMs: transitionTimeoutMs + createTimeoutMs,
      ...options,
      json: request,
    });
  }

  /** States of it that are kept, the oldest first. */
  history(id: string, options: RequestOptions = {}): Promise<SandboxHistory> {
    return this.#http.json('GET', `${at(id)}/history`, { ...options, repeatable: true });
  }

  logs(id: string, options: RequestOptions = {}): Promise<SandboxLogs> {
    return this.#http.json('GET', `${at(id)}/logs`, { ...options, repeatable: true });
  }

  /** Counts from now. */
  setTimeout(id: string, timeoutSec: number, options: RequestOptions = {}): Promise<Sandbox> {
    const json = { timeout_sec: timeoutSec };
    return this.#http.json('POST', `${at(id)}/timeout`, { ...options, json, repeatable: true });
  }

  /** Runs a command to its end. A command that takes more than some minutes is for `execStream`. */
  exec(id: string, request: ExecRequest, options: RequestOptions = {}): Promise<ExecResult> {
    const timeoutMs = (request.timeout_sec ?? execDefaultSec) * 1000 + execMarginMs;
    return this.#http.json('POST', `${at(id)}/exec`, { timeoutMs, ...options, json: request });
  }

  /** Resolves when the command runs. */
  execStream(id: string, start: ExecStart, options: { signal?: AbortSignal } = {}): Promise<ExecStream> {
    return ExecStream.open(this.#http, id, { type: 'start', ...start }, options.signal);
  }
}

function at(id: string): string {
  return `/v1/sandboxes/${encodeURIComponent(id)}`;
}
