/** Requests: authentication, time-outs, bounded retries, and errors that say what to do. */
import { PerchError } from '@perch/protocol';
import { type Config, resolveConfig } from './config.ts';
import { ConnectionError, connectionError, UnexpectedAnswerError } from './errors.ts';
import type { GivenConfig } from './given-config.ts';
import { type Answer, type Body, byFetch, type Outgoing, platformTransport } from './transport/index.ts';

export interface PerchOptions extends GivenConfig {
  /** Instead of the HTTP client of this platform. */
  fetch?: typeof globalThis.fetch;
  /** How often a request that may be repeated is, when its connection fails. */
  retries?: number;
  /** Wait as Retry-After says on 429 and 503, and try again, up to this many ms in all. */
  waitWhenBusyMs?: number;
  /** Of a request without a duration of its own, ms. */
  timeoutMs?: number;
}

export interface RequestOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

interface Request extends RequestOptions {
  json?: unknown;
  body?: Body;
  headers?: Record<string, string>;
  query?: Record<string, string | number | undefined>;
  /** Sending it again does no harm. */
  repeatable?: boolean;
  /** Statuses that are an answer, though no success. */
  accept?: number[];
  /** The body takes any time. */
  endless?: boolean;
  /** As of `Outgoing`. */
  trailers?: boolean;
}

const firstPauseMs = 100;

export class Http {
  readonly #options: PerchOptions;
  #config: Promise<Config> | undefined;

  constructor(options: PerchOptions) {
    this.#options = options;
  }

  config(): Promise<Config> {
    this.#config ??= resolveConfig(this.#options);
    return this.#config;
  }

  async json<T>(method: string, path: string, request: Request = {}): Promise<T> {
    const answer = await this.send(method, path, request);
    const body = await this.#read(answer);
    if (body === undefined) throw new UnexpectedAnswerError(answer.url, answer.status, 'no JSON');
    return body as T;
  }

  /** For calls that answer nothing. */
  async done(method: string, path: string, request: Request = {}): Promise<void> {
    const answer = await this.send(method, path, request);
    await answer.drop();
  }

  /** An answer whose status is a success. @throws PerchError, ConnectionError, UnexpectedAnswerError */
  async send(method: string, path: string, request: Request = {}): Promise<Answer> {
    const { retries = 2, waitWhenBusyMs = 0 } = this.#options;
    let waitLeft = waitWhenBusyMs;
    for (let attempt = 0; ; ) {
      const outcome = await this.#once(method, path, request);
      if (!(outcome instanceof ConnectionError)) {
        if (outcome.ok || request.accept?.includes(outcome.status)) return outcome;
        const pause = retryAfterMs(outcome);
        if (pause === undefined || pause > waitLeft || request.endless) throw await this.#refusal(outcome);
        await outcome.drop();
        waitLeft -= pause;
        await delay(pause, request.signal);
        continue;
      }
      const mayRepeat = (request.repeatable || !outcome.sent) && !request.endless;
      if (!mayRepeat || attempt >= retries) throw outcome;
      await delay(firstPauseMs * 3 ** attempt, request.signal);
      attempt++;
    }
  }

  async #once(method: string, path: string, request: Request) {
    const { url, apiKey } = await this.config();
    const target = `${url}${path}${queryOf(request.query)}`;
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs ?? 60_000;
    // It holds until the answer is read to its end.
    const limit = AbortSignal.timeout(Math.min(timeoutMs, 2 ** 31 - 1));
    const signals = request.signal ? [request.signal, limit] : [limit];
    const outgoing: Outgoing = {
      method,
      headers: {
        ...(apiKey ? { 'x-api-key': apiKey } : {}),
        ...(request.json === undefined ? {} : { 'content-type': 'application/json' }),
        ...request.headers,
      },
      body: request.json === undefined ? request.body : JSON.stringify(request.json),
      trailers: request.trailers,
      signal: request.endless ? request.signal : AbortSignal.any(signals),
    };
    try {
      const { fetch } = this.#options;
      const transport = fetch ? byFetch(fetch) : await platformTransport();
      return await transport(target, outgoing);
    } catch (error) {
      request.signal?.throwIfAborted();
      return connectionError(url, error);
    }
  }

  async #refusal(answer: Answer): Promise<Error> {
    const body = await this.#read(answer);
    return (
      PerchError.fromBody(body) ??
      new UnexpectedAnswerError(answer.url, answer.status, `status ${answer.status}`)
    );
  }

  async #read(answer: Answer): Promise<unknown> {
    const { url } = await this.config();
    const text = await answer.text().catch((error: unknown) => {
      throw connectionError(url, error);
    });
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  }
}

function queryOf(query: Request['query']): string {
  const pairs = Object.entries(query ?? {}).filter(
    (pair): pair is [string, string | number] => pair[1] !== undefined,
  );
  if (pairs.length === 0) return '';
  return `?${new URLSearchParams(Object.fromEntries(pairs.map(([name, value]) => [name, String(value)])))}`;
}

function retryAfterMs(answer: Answer): number | undefined {
  if (answer.status !== 429 && answer.status !== 503) return undefined;
  const seconds = answer.header('retry-after');
  return seconds !== undefined && /^\d{1,6}$/.test(seconds)
    ? Math.max(Number(seconds) * 1000, firstPauseMs)
    : undefined;
}

function delay(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const cancel = () => {
    clearTimeout(timer);
    reject(signal?.reason);
  };
  signal?.addEventListener('abort', cancel, { once: true });
  return promise.finally(() => signal?.removeEventListener('abort', cancel));
}
