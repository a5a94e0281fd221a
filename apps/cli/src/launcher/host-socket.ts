/** The few calls of the host API that root makes by itself, on its socket. */
import { request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { hasCode } from '@perch/node-kit';
import {
  dataPaths,
  type FsckFinding,
  type FsckFindings,
  type HostImported,
  type HostInfo,
  type HostSandbox,
  type HostSandboxList,
  type HostSnapshotImport,
  PerchError,
} from '@perch/protocol';
import { CliError } from '../errors.ts';

/** No host agent is there, or it went away before it answered. */
export class HostGone extends CliError {
  override readonly name = 'HostGone';

  constructor(cause: Error) {
    super(
      `perch-host does not answer (${cause.message}).`,
      'See whether Perch runs: `perch doctor`; then try it again.',
      { cause },
    );
  }
}

const gone = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'] as const;

/** Each call throws HostGone when nobody answers any more. */
export class HostSocket {
  readonly #path: string;
  readonly #infoMs: number;

  /** @param infoMs how long the host agent may take to describe its host, milliseconds */
  constructor(dataDir: string, infoMs = 30_000) {
    this.#path = dataPaths(dataDir).hostSocket;
    this.#infoMs = infoMs;
  }

  info(): Promise<HostInfo> {
    return this.#call('GET', '/v1/host', undefined, AbortSignal.timeout(this.#infoMs)) as Promise<HostInfo>;
  }

  async sandboxes(): Promise<HostSandbox[]> {
    return ((await this.#call('GET', '/v1/sandboxes')) as HostSandboxList).items;
  }

  async destroy(id: string): Promise<void> {
    await this.#call('DELETE', `/v1/sandboxes/${id}`);
  }

  async fsck(repair: boolean): Promise<FsckFinding[]> {
    return ((await this.#call('POST', '/v1/fsck', { repair })) as FsckFindings).findings;
  }

  /** Makes a snapshot of a directory of this machine. */
  import(request: HostSnapshotImport): Promise<HostImported> {
    return this.#call('POST', '/v1/snapshots/import', request) as Promise<HostImported>;
  }

  /** Ends the host agent. */
  async shutdown(remove: boolean): Promise<void> {
    await this.#call('POST', '/v1/shutdown', { remove });
  }

  /** Whether a host agent answers. */
  async answers(): Promise<boolean> {
    return this.info().then(
      () => true,
      () => false,
    );
  }

  async #call(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<[status: number, body: Buffer]>();
    const call = request({
      socketPath: this.#path,
      method,
      path,
      ...(signal ? { signal } : {}),
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
    });
    call.once('error', (error) => {
      if (!hasCode(error, ...gone)) return reject(error);
      reject(new HostGone(error));
    });
    call.once('response', (answer) => {
      buffer(answer).then((bytes) => resolve([answer.statusCode ?? 0, bytes]), reject);
    });
    call.end(body === undefined ? undefined : JSON.stringify(body));
    const [status, bytes] = await promise;
    const json: unknown = bytes.length === 0 ? undefined : JSON.parse(bytes.toString('utf8'));
    if (status >= 400) throw PerchError.fromBody(json) ?? new Error(`The host agent answered ${status}.`);
    return json;
  }
}
