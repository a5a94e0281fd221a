import type {
  CreateSandbox,
  ExecRequest,
  ExecResult,
  ExecTicket,
  Sandbox,
  SandboxList,
  SandboxLogs,
  SandboxStatus,
} from '@perch/protocol';
import { ExecStream, type StreamStart } from './exec-stream.ts';
import { Files } from './files.ts';
import { ConnectionError, type Transport } from './transport.ts';

export interface ListOptions {
  /** Default: every status but `destroyed`. */
  status?: SandboxStatus[];
  /** All of these labels. */
  metadata?: Record<string, string>;
  limit?: number;
  cursor?: string;
}

export interface CreateOptions {
  /** A repeat with the same key gives the first answer. One is made when absent. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

const createTries = 3;
const retryMs = 300;
/** What a command's own time-out leaves for the answer to come back. */
const answerMs = 30_000;

export class Sandboxes {
  readonly #http: Transport;

  constructor(http: Transport) {
    this.#http = http;
  }

  /** Resolves once it runs. A connection that breaks is tried again, and makes no second sandbox. */
  async create(request: CreateSandbox = {}, options: CreateOptions = {}): Promise<Sandbox> {
    const key = options.idempotencyKey ?? crypto.randomUUID();
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#http.json<Sandbox>('POST', '/v1/sandboxes', {
          body: request,
          headers: { 'idempotency-key': key },
          signal: options.signal,
        });
      } catch (error) {
        if (!(error instanceof ConnectionError) || attempt === createTries) throw error;
        await new Promise((resolve) => setTimeout(resolve, retryMs * attempt));
      }
    }
  }

  get(id: string): Promise<Sandbox> {
    return this.#http.json('GET', path(id));
  }

  /** One page. */
  list(options: ListOptions = {}): Promise<SandboxList> {
    const { status, metadata = {}, limit, cursor } = options;
    const labels = Object.entries(metadata).map(([name, value]) => [`metadata.${name}`, value]);
    const query = { status: status?.join(','), limit, cursor, ...Object.fromEntries(labels) };
    return this.#http.json('GET', '/v1/sandboxes', { query });
  }

  /** All pages. */
  async *all(options: Omit<ListOptions, 'cursor'> = {}): AsyncGenerator<Sandbox> {
    let cursor: string | null | undefined;
    do {
      const page: SandboxList = await this.list({ ...options, ...(cursor ? { cursor } : {}) });
      yield* page.items;
      cursor = page.next_cursor;
    } while (cursor);
  }

  /** Resolves once nothing is left of it; also for one that was destroyed before. */
  async delete(id: string): Promise<void> {
    await this.#http.json('DELETE', path(id));
  }

  logs(id: string): Promise<SandboxLogs> {
    return this.#http.json('GET', `${path(id)}/logs`);
  }

  /** Ends its life so many seconds from now. */
  setTimeout(id: string, timeoutSec: number): Promise<Sandbox> {
    return this.#http.json('POST', `${path(id)}/timeout`, { body: { timeout_sec: timeoutSec } });
  }

  /** Runs a command to its end. @throws PerchError exec_timeout with the output so far */
  exec(id: string, request: ExecRequest, options: { signal?: AbortSignal } = {}): Promise<ExecResult> {
    const timeoutMs = (request.timeout_sec ?? 30) * 1000 + answerMs;
    return this.#http.json('POST', `${path(id)}/exec`, { body: request, timeoutMs, ...options });
  }

  /** Runs a command with its output as it comes. */
  execStream(id: string, start: StreamStart): Promise<ExecStream> {
    return ExecStream.open(`${this.#http.url}${path(id)}/exec/stream`, this.#http.apiKey, start);
  }

  /** A ticket that opens one `exec/stream` without the key, for a browser. */
  execTicket(id: string): Promise<ExecTicket> {
    return this.#http.json('POST', `${path(id)}/exec/ticket`);
  }

  files(id: string): Files {
    return new Files(this.#http, id);
  }
}

function path(id: string): string {
  return `/v1/sandboxes/${encodeURIComponent(id)}`;
}
