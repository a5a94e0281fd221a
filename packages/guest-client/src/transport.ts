/**
 * Connections to one guest agent. Each kind of request has a number of its own, so that slow ones of one kind
 * hold up none of another. Redirects are not followed, heads are small, and every wait has an end.
 */
import type { Readable } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import { encodeEnvelope } from './connect/envelope.ts';
import { asText, type Json, parseObject } from './connect/json.ts';
import { connectionError, guestProtocol, type Refusal } from './errors.ts';
import { Lane } from './lane.ts';

export interface TransportOptions {
  address: string;
  port: number;
  accessToken: string;
  sandboxId: string;
  /** Longest silence of a stream, and of an agent that works on a request, ms. */
  idleTimeoutMs: number;
  /** Longest duration of a call with one answer, and longest wait of a transfer for others to end, ms. */
  callTimeoutMs: number;
  /** How much longer than the agent we wait for a command's time-out, in case the guest does not keep it, ms. */
  graceMs: number;
  /** Of both pools. */
  pool?: Pool.Options;
}

export interface Call {
  path: string;
  body: Json;
  user?: string | undefined;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

/** A guest's refusal, which the caller turns into an error of its own subject. */
export class Refused extends Error {
  override readonly name = 'Refused';
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** Of requests that may last: commands and those who follow one, input that a process takes, files. */
export type LaneName = 'commands' | 'input' | 'transfers';

/** Together fewer than the agent takes, which is 512. */
const maxConnections = { calls: 8, commands: 400, input: 48, transfers: 48 };
const errorLimit = 64 * 1024;
/** Of a head, and of what trails a body, bytes. */
const trailerLimit = 16 * 1024;
/** Of a page of a directory whose paths and links are as long as they can be. */
const answerLimit = 16 * 1024 * 1024;

export class Transport {
  readonly options: TransportOptions;
  readonly #calls: Pool;
  /** Bounded by the lanes: what it is given never waits in it. */
  readonly #streams: Pool;
  readonly #lanes: Record<LaneName, Lane>;

  constructor(options: TransportOptions) {
    this.options = options;
    const origin = `http://${options.address}:${options.port}`;
    const common: Pool.Options = {
      keepAliveTimeout: 60_000,
      keepAliveMaxTimeout: 60_000,
      maxHeaderSize: trailerLimit,
      headersTimeout: options.idleTimeoutMs,
      bodyTimeout: options.idleTimeoutMs,
      allowH2: false,
      connect: { timeout: 10_000, noDelay: true },
      ...options.pool,
    };
    this.#calls = new Pool(origin, { ...common, connections: maxConnections.calls });
    this.#streams = new Pool(origin, common);
    const { sandboxId, callTimeoutMs } = options;
    const lane = (kind: LaneName, name: string, waitMs: number) =>
      new Lane({ name, limit: maxConnections[kind], waitMs, sandboxId });
    this.#lanes = {
      // A command lasts as long as it likes: to wait for another to end is to wait for nothing.
      commands: lane('commands', 'streams of commands', 0),
      // As a process that does not read has its writer wait.
      input: lane('input', 'pieces of input', Number.POSITIVE_INFINITY),
      transfers: lane('transfers', 'transfers, moves and removals', callTimeoutMs),
    };
  }

  /** Ends all connections; what is under way fails. */
  async close(): Promise<void> {
    await Promise.all([this.#calls.destroy(), this.#streams.destroy()]);
  }

  /** A call with one answer. @throws {Refused} */
  async unary(call: Call, how: { patient?: Exclude<LaneName, 'commands'> } = {}): Promise<Json> {
    const request = { ...this.#post(call, 'application/json'), body: JSON.stringify(call.body) };
    return this.#answer(request, call.signal, how.patient);
  }

  /** Bytes that a process takes when it likes. @throws {Refused} */
  async send({
    path,
    body,
    signal,
  }: {
    path: string;
    body: Buffer;
    signal: AbortSignal | undefined;
  }): Promise<void> {
    const headers = { ...this.headers(), 'content-type': 'application/octet-stream' };
    await this.#answer({ method: 'POST', path, headers, body }, signal, 'input');
  }

  async #answer(
    request: Dispatcher.RequestOptions,
    signal: AbortSignal | undefined,
    patient: LaneName | undefined,
  ): Promise<Json> {
    const response = await this.#within(signal, patient !== undefined, async (limited) => {
      // A patient call waits for the process, and must not take a connection from the others.
      const { statusCode, body } = patient
        ? await this.#enter(patient, { ...request, signal: limited, headersTimeout: 0 })
        : await sent(this.#calls.request({ ...request, signal: limited }), limited);
      const bytes = await this.readBody(body, statusCode === 200 ? answerLimit : errorLimit);
      return { statusCode, bytes };
    });
    const json = parseObject(response.bytes);
    if (response.statusCode === 200 && json) return json;
    throw new Refused(this.#refusal(response.statusCode, json));
  }

  /** A call with a stream of envelopes for an answer. The caller destroys the body, or reads it to its end. */
  async stream(call: Call): Promise<Readable> {
    const request = {
      ...this.#post(call, 'application/connect+json'),
      body: encodeEnvelope(Buffer.from(JSON.stringify(call.body))),
      signal: call.signal,
    };
    const response = await this.request(request, 'commands');
    const type = response.headers['content-type'];
    if (response.statusCode !== 200) throw new Refused(await this.refusal(response));
    if (type === 'application/connect+json') return response.body;
    response.body.destroy();
    throw guestProtocol(this.options.sandboxId, `a stream of type ${type ?? 'none'}`);
  }

  /** A plain HTTP request, whose body may take its time. The caller destroys it, or reads it to its end. */
  async request(
    options: Dispatcher.RequestOptions,
    lane: LaneName = 'transfers',
  ): Promise<Dispatcher.ResponseData> {
    try {
      return await this.#enter(lane, options);
    } catch (error) {
      throw connectionError(error, this.options.sandboxId, options.signal as AbortSignal | undefined);
    }
  }

  /** Keeps a place in the lane until the body of the answer is closed. */
  async #enter(lane: LaneName, options: Dispatcher.RequestOptions): Promise<Dispatcher.ResponseData> {
    const signal = options.signal as AbortSignal | undefined;
    const leave = await this.#lanes[lane].enter(signal);
    const answered = this.#streams.request(options);
    answered.then(({ body }) => {
      // The body reports its errors when it is read; one that is given up has no reader.
      body.on('error', () => {});
      if (body.closed) leave();
      else body.once('close', leave);
    }, leave);
    return sent(answered, signal);
  }

  /** The refusal of a plain HTTP call. */
  async refusal(response: Dispatcher.ResponseData): Promise<Refusal> {
    const bytes = await this.readBody(response.body, errorLimit).catch((error: unknown) => {
      throw connectionError(error, this.options.sandboxId);
    });
    return this.#refusal(response.statusCode, parseObject(bytes));
  }

  /** Why a stream that has been read has ended before its end: a trailer, to which a refusal is cut. */
  refusalAtEnd({ trailers }: Dispatcher.ResponseData): (Refusal & { path?: string }) | undefined {
    const told: unknown = trailers['perch-error'];
    if (told === undefined) return undefined;
    const json = typeof told === 'string' ? parseObject(Buffer.from(told)) : undefined;
    const path = asText(json?.path, trailerLimit);
    return { ...this.#refusal(500, json), ...(path ? { path } : {}) };
  }

  async readBody(body: Readable, limit: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limit) {
        throw guestProtocol(this.options.sandboxId, `an answer is longer than ${limit} bytes`);
      }
      chunks.push(chunk);
    }
    return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, length);
  }

  headers(user?: string): Record<string, string> {
    const token = { 'x-access-token': this.options.accessToken };
    return user === undefined
      ? token
      : { ...token, authorization: `Basic ${Buffer.from(`${user}:`).toString('base64')}` };
  }

  #post(call: Call, type: string) {
    return {
      method: 'POST' as const,
      path: call.path,
      headers: {
        ...this.headers(call.user),
        'content-type': type,
        'connect-protocol-version': '1',
        ...call.headers,
      },
    };
  }

  #refusal(status: number, json: Json | undefined): Refusal {
    const code = json?.code;
    const known = typeof code === 'string' && /^[a-z_]{1,40}$/.test(code);
    if (status === 200) throw guestProtocol(this.options.sandboxId, 'an answer is no JSON object');
    const reason = asText(json?.reason, 40);
    const subject = json?.subject;
    return {
      ...(reason ? { reason } : {}),
      ...(subject === 'source' || subject === 'destination' ? { subject } : {}),
      code: known ? code : String(status),
      message: asText(json?.message, errorLimit) || `HTTP status ${status}`,
    };
  }

  /** Runs a call within its time, and gives its errors their codes. */
  async #within<T>(
    signal: AbortSignal | undefined,
    patient: boolean,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const limit = new AbortController();
    const timer = patient
      ? undefined
      : setTimeout(() => limit.abort(new Error('no answer in time')), this.options.callTimeoutMs);
    const cancel = () => limit.abort(signal?.reason);
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      signal?.throwIfAborted();
      return await work(limit.signal);
    } catch (error) {
      throw connectionError(error, this.options.sandboxId, signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
    }
  }
}

/** Ends with the signal also while there is no connection yet: until then undici does not look at it. */
function sent<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const cancel = () => reject(signal.reason);
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', cancel));
  });
}
