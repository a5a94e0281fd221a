import type { Readable } from 'node:stream';
import {
  type ConvertSnapshot,
  type HostCreate,
  HostEvent,
  type HostFork,
  HostForked,
  HostInfo,
  type HostPause,
  type HostPinReady,
  type HostResume,
  HostSandbox,
  HostSandboxList,
  type HostSnapshotCreate,
  HostSnapshotList,
  isPerchError,
  NewSnapshot,
  PerchError,
  ReadyGuests,
  ReadyGuestsList,
  remakeAnyDiskMs,
  remakeDiskMs,
  SandboxHistory,
  Snapshot,
} from '@perch/protocol';
import type { TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { Client, type Dispatcher, Pool } from 'undici';
import { refusalOf } from './refusal.ts';

/** Deadlines, ms. A start boots a guest, which without KVM takes its time. */
const deadlines = { read: 5_000, start: 180_000, destroy: 60_000 };
/** Deadline of a call that moves guest memory: as a disk does that writes 10 MB/s. */
const transitionMs = ({ memoryMb }: Pick<Machine, 'memoryMb'>) => 120_000 + 100 * memoryMb;
/** Of one that goes on from a state, whose disk has to be merged or converted first perhaps. */
const goOnMs = (machine: Size) => transitionMs(machine) + remakeDiskMs(machine.diskMb);
const maxConsoleBytes = 4 * 1024 * 1024;

const validators = {
  info: Compile(HostInfo),
  sandbox: Compile(HostSandbox),
  list: Compile(HostSandboxList),
  event: Compile(HostEvent),
  forked: Compile(HostForked),
  history: Compile(SandboxHistory),
  snapshot: Compile(Snapshot),
  newSnapshot: Compile(NewSnapshot),
  snapshots: Compile(HostSnapshotList),
  ready: Compile(ReadyGuests),
  readyList: Compile(ReadyGuestsList),
};

/** Of a sandbox, MiB: it says how long a call may take. */
interface Size {
  memoryMb: number;
  diskMb: number;
}

/** The facts that a call about an existing sandbox needs. */
interface Machine extends Size {
  id: string;
  generation: number;
}

interface Call {
  method: Dispatcher.HttpMethod;
  path: string;
  body?: unknown;
  deadlineMs: number;
  requestId?: string | undefined;
}

/** Client of one host agent. Throws its errors as they are, and `host_unavailable` when it does not answer. */
export class HostClient implements AsyncDisposable {
  readonly #socketPath: string;
  readonly #short: Pool;
  /** Of their own: however many starts and copies are under way, a destroy and a look do not wait for them. */
  readonly #long: Pool;
  /** The host's name in messages until it has told its id. */
  #hostId = 'local';

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
    const connect = { timeout: 2_000 };
    const options = { socketPath, connections: 64, connect, headersTimeout: 0, bodyTimeout: 0 };
    this.#short = new Pool('http://host', options);
    this.#long = new Pool('http://host', options);
  }

  async info(): Promise<HostInfo> {
    const info = await this.#json(validators.info, {
      method: 'GET',
      path: '/v1/host',
      deadlineMs: deadlines.read,
    });
    this.#hostId = info.host_id;
    return info;
  }

  async list(): Promise<HostSandbox[]> {
    const call = { method: 'GET', path: '/v1/sandboxes', deadlineMs: deadlines.read } as const;
    return (await this.#json(validators.list, call)).items;
  }

  /** Resolves once the sandbox runs. The same call again gives the same sandbox. */
  create(id: string, body: HostCreate, requestId?: string): Promise<HostSandbox> {
    return this.#json(validators.sandbox, {
      method: 'PUT',
      path: `/v1/sandboxes/${id}`,
      body,
      // Layers of another kind of disk are converted before anything starts from them.
      deadlineMs: deadlines.start + remakeDiskMs(body.disk_mb),
      requestId,
    });
  }

  /** Resolves once the sandbox is paused. The same call again is answered alike. */
  async pause(sandbox: Machine, memory: boolean, requestId?: string): Promise<HostSandbox> {
    const { id, generation } = sandbox;
    const deadlineMs = transitionMs(sandbox);
    const body: HostPause = { generation, ...(memory ? {} : { memory }) };
    const call = { path: `/v1/sandboxes/${id}/pause`, body, deadlineMs, requestId };
    return this.#transition(call, { status: 'paused', generation });
  }

  /** Resolves once the sandbox runs in the life that `body` begins. The same call again is answered alike. */
  async resume(sandbox: Machine, body: HostResume, requestId?: string): Promise<HostSandbox> {
    const path = `/v1/sandboxes/${sandbox.id}/resume`;
    const call = { path, body, deadlineMs: goOnMs(sandbox), requestId };
    return this.#transition(call, { status: 'running', generation: body.generation });
  }

  /** Resolves once every child runs or failed. @throws when there is none */
  fork(sandbox: Machine, body: HostFork, requestId?: string): Promise<HostForked> {
    return this.#json(validators.forked, {
      method: 'POST',
      path: `/v1/sandboxes/${sandbox.id}/fork`,
      body,
      deadlineMs: goOnMs(sandbox) + deadlines.start,
      requestId,
    });
  }

  history(id: string, requestId?: string): Promise<SandboxHistory> {
    const path = `/v1/sandboxes/${id}/history`;
    return this.#json(validators.history, { method: 'GET', path, deadlineMs: deadlines.read, requestId });
  }

  /** Resolves once the snapshot is there for good. */
  snapshot(sandbox: Size, body: HostSnapshotCreate, requestId?: string): Promise<NewSnapshot> {
    const deadlineMs = goOnMs(sandbox);
    return this.#json(validators.newSnapshot, {
      ...{ method: 'POST', path: '/v1/snapshots', body, deadlineMs, requestId },
    });
  }

  /** Images and snapshots, by name. */
  async snapshots(requestId?: string): Promise<Snapshot[]> {
    const call = { method: 'GET', path: '/v1/snapshots', deadlineMs: deadlines.read, requestId } as const;
    return (await this.#json(validators.snapshots, call)).items;
  }

  /** @throws PerchError snapshot_not_found */
  describeSnapshot(name: string, requestId?: string): Promise<Snapshot> {
    const path = snapshotPath(name);
    return this.#json(validators.snapshot, { method: 'GET', path, deadlineMs: deadlines.read, requestId });
  }

  /** Resolves once its disk stands alone. @throws PerchError snapshot_not_found, snapshot_in_use */
  flattenSnapshot(name: string, requestId?: string): Promise<Snapshot> {
    const path = `${snapshotPath(name)}/flatten`;
    return this.#json(validators.snapshot, {
      method: 'POST',
      path,
      deadlineMs: remakeAnyDiskMs,
      requestId,
    });
  }

  /** Resolves once its layers have this format. @throws PerchError snapshot_not_found, snapshot_in_use, conversion_failed */
  convertSnapshot(name: string, body: ConvertSnapshot, requestId?: string): Promise<Snapshot> {
    const path = `${snapshotPath(name)}/convert`;
    return this.#json(validators.snapshot, {
      ...{ method: 'POST', path, body, requestId },
      deadlineMs: remakeAnyDiskMs,
    });
  }

  /** @throws PerchError snapshot_not_found, snapshot_in_use */
  async removeSnapshot(name: string, requestId?: string): Promise<void> {
    const path = snapshotPath(name);
    await this.#send({ method: 'DELETE', path, deadlineMs: deadlines.destroy, requestId });
  }

  /** By template and shape. */
  async ready(requestId?: string): Promise<ReadyGuests[]> {
    const call = { method: 'GET', path: '/v1/ready', deadlineMs: deadlines.read, requestId } as const;
    return (await this.#json(validators.readyList, call)).items;
  }

  /** @throws PerchError template_not_found, disk_too_small, shape_mismatch, too_many_ready */
  pinReady(body: HostPinReady, requestId?: string): Promise<ReadyGuests> {
    return this.#json(validators.ready, {
      ...{ method: 'PUT', path: '/v1/ready', body, deadlineMs: deadlines.read, requestId },
    });
  }

  /** Resolves once nothing of the sandbox is left; also when the host knows none. */
  async destroy(id: string, requestId?: string): Promise<void> {
    try {
      await this.#send({
        method: 'DELETE',
        path: `/v1/sandboxes/${id}`,
        deadlineMs: deadlines.destroy,
        requestId,
      });
    } catch (error) {
      if (!isPerchError(error, 'sandbox_not_found')) throw error;
    }
  }

  /** The last of the console; empty when the host no longer knows the sandbox. */
  async console(id: string, requestId?: string): Promise<Buffer> {
    try {
      return await this.#send({
        method: 'GET',
        path: `/v1/sandboxes/${id}/console`,
        deadlineMs: deadlines.read,
        requestId,
      });
    } catch (error) {
      if (isPerchError(error, 'sandbox_not_found')) return Buffer.alloc(0);
      throw error;
    }
  }

  /**
   * Every sandbox, `synced`, then each change, until the signal or the connection ends. It has a connection
   * of its own, and ends with an error when not even a heartbeat came for `silenceMs`.
   */
  async *events(signal: AbortSignal, silenceMs = 15_000): AsyncGenerator<HostEvent> {
    const client = new Client('http://host', {
      socketPath: this.#socketPath,
      connect: { timeout: 2_000 },
      headersTimeout: silenceMs,
      bodyTimeout: silenceMs,
    });
    try {
      const answer = await client.request({ method: 'GET', path: '/v1/events', signal });
      if (answer.statusCode !== 200) throw this.#refusal(answer.statusCode, await answer.body.text());
      for await (const line of lines(answer.body)) {
        const event: unknown = JSON.parse(line);
        if (!validators.event.Check(event)) throw this.#unavailable(new Error('not a host event'));
        yield event;
      }
    } catch (error) {
      throw error instanceof PerchError ? error : this.#unavailable(error);
    } finally {
      await client.destroy();
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#short.destroy(), this.#long.destroy()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #transition(
    to: Omit<Call, 'method'>,
    wanted: Pick<HostSandbox, 'status' | 'generation'>,
  ): Promise<HostSandbox> {
    const call = { ...to, method: 'POST' } as const;
    const seen = await this.#json(validators.sandbox, call);
    if (seen.status === wanted.status && seen.generation === wanted.generation) return seen;
    throw this.#notItsApi(call);
  }

  async #json<T extends TSchema>(
    validator: Validator<Record<never, never>, T>,
    call: Call,
  ): Promise<ReturnType<typeof validator.Parse>> {
    const body: unknown = JSON.parse((await this.#send(call)).toString('utf8'));
    if (!validator.Check(body)) throw this.#notItsApi(call);
    return body as ReturnType<typeof validator.Parse>;
  }

  async #send(call: Call): Promise<Buffer> {
    let answer: Dispatcher.ResponseData;
    let body: Buffer;
    try {
      const pool = call.deadlineMs > deadlines.destroy ? this.#long : this.#short;
      answer = await pool.request({
        method: call.method,
        path: call.path,
        signal: AbortSignal.timeout(call.deadlineMs),
        headers: {
          ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(call.requestId === undefined ? {} : { 'x-request-id': call.requestId }),
        },
        body: call.body === undefined ? null : JSON.stringify(call.body),
      });
      body = await collect(answer.body);
    } catch (error) {
      throw this.#unavailable(error);
    }
    if (answer.statusCode >= 300) throw this.#refusal(answer.statusCode, body.toString('utf8'));
    return body;
  }

  #notItsApi({ method, path }: Call): PerchError {
    return new PerchError(
      'host_unavailable',
      `The host agent's answer to ${method} ${path} is not what its API says.`,
      { host_id: this.#hostId },
    );
  }

  #unavailable(cause: unknown): PerchError {
    return new PerchError(
      'host_unavailable',
      'The host agent does not answer.',
      { host_id: this.#hostId },
      { cause },
    );
  }

  #refusal(status: number, text: string): PerchError {
    return refusalOf(text) ?? this.#unavailable(new Error(`status ${status}: ${text.slice(0, 200)}`));
  }
}

function snapshotPath(name: string): string {
  return `/v1/snapshots/${encodeURIComponent(name)}`;
}

async function collect(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > 4 * maxConsoleBytes) throw new Error('the answer is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function* lines(body: Readable): AsyncGenerator<string> {
  let rest = '';
  body.setEncoding('utf8');
  for await (const chunk of body as AsyncIterable<string>) {
    rest += chunk;
    let end = rest.indexOf('\n');
    while (end >= 0) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      if (line !== '') yield line;
      end = rest.indexOf('\n');
    }
    if (rest.length > 1_000_000) throw new Error('a line without end');
  }
}
