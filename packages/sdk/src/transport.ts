/** One HTTP call to Perch, with its errors as PerchError. */
import { PerchError } from '@perch/protocol';

export interface TransportOptions {
  /** For example `http://127.0.0.1:7070`. */
  url: string;
  apiKey?: string | undefined;
  /** Time for an answer to begin, milliseconds. Calls that wait on a command add its own time. */
  timeoutMs?: number;
  fetch?: typeof fetch;
}

export interface CallOptions {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  /** Sent as it is, in place of `body`. */
  raw?: NonNullable<RequestInit['body']>;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** Replaces the default; 0 for none. */
  timeoutMs?: number;
}

/** Perch could not be reached, or went away before it answered: whether it acted is not known. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly remedy: string;

  constructor(url: string, cause: unknown) {
    const why = (cause as { cause?: { code?: string } }).cause?.code ?? (cause as Error).message;
    super(`Perch does not answer at ${url} (${why}).`, { cause });
    this.remedy = 'Start it with `perch up`, or set PERCH_URL to where it listens.';
  }
}

const defaultTimeoutMs = 150_000;

export class Transport {
  readonly url: string;
  readonly apiKey: string | undefined;
  readonly #timeoutMs: number;
  readonly #fetch: typeof fetch;

  constructor(options: TransportOptions) {
    this.url = options.url.replace(/\/+$/, '');
    this.apiKey = options.apiKey;
    this.#timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    this.#fetch = options.fetch ?? fetch;
  }

  /** @throws PerchError what Perch answered; ConnectionError; the signal's reason */
  async json<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const answer = await this.call(method, path, options);
    if (answer.status === 204) return undefined as T;
    return (await reading(this.url, options.signal, answer.json())) as T;
  }

  /** The answer as it comes, for bodies that are streamed. @throws as `json` */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Response> {
    const url = new URL(this.url + path);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = { ...options.headers };
    if (this.apiKey) headers['x-api-key'] = this.apiKey;
    let body = options.raw;
    if (options.body !== undefined) {
      headers['content-type'] = 'application/json';
      body = JSON.stringify(options.body);
    }
    const limit = deadline(options.timeoutMs ?? this.#timeoutMs, options.signal);
    const init: RequestInit & { duplex?: 'half' } = {
      method,
      headers,
      redirect: 'error',
      signal: limit.signal,
    };
    if (body !== undefined) Object.assign(init, { body, duplex: 'half' });
    try {
      const answer = await reading(url.origin, options.signal, this.#fetch(url, init));
      if (!answer.ok) throw await errorOf(answer);
      return answer;
    } finally {
      limit.clear();
    }
  }
}

/** Ends the wait for an answer, not the reading of its body, which may rightly take long. */
function deadline(timeoutMs: number, signal: AbortSignal | undefined) {
  const controller = new AbortController();
  const seconds = timeoutMs / 1000;
  const reason = () => controller.abort(new Error(`no answer within ${seconds} s`));
  const timer = timeoutMs > 0 ? setTimeout(reason, timeoutMs) : undefined;
  return {
    signal: signal ? AbortSignal.any([signal, controller.signal]) : controller.signal,
    clear: () => clearTimeout(timer),
  };
}

/** Tells a caller's own abort from a connection that failed. */
async function reading<T>(url: string, signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new ConnectionError(url, error);
  }
}

async function errorOf(answer: Response): Promise<Error> {
  const text = await answer.text().catch(() => '');
  try {
    const error = PerchError.fromBody(JSON.parse(text));
    if (error) return error;
  } catch {
    // Not JSON: something other than Perch answered.
  }
  return new Error(`The answer was ${answer.status} ${answer.statusText}, and not from Perch.`);
}
