/** The few calls of the host API that root makes by itself, each on a connection of its own. */
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { hasCode } from '@perch/node-kit';
import type {
  FsckFinding,
  FsckFindings,
  HostImported,
  HostInfo,
  HostSandbox,
  HostSandboxList,
  HostSnapshotImport,
} from '@perch/protocol';
import { refusalOf } from './refusal.ts';

export interface HostSocketOptions {
  /** Where the host agent listens. */
  path: string;
  /** Error of a call when no host agent is there, or it went away before it answered. */
  gone: (cause: Error) => Error;
  /** Time that the host agent has to describe its host, ms. */
  infoMs?: number;
}

const goneCodes = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'] as const;

/** Node's own client suffices for these; to load another takes longer than all that `perch` does with it. */
export class HostSocket {
  readonly #options: HostSocketOptions;

  constructor(options: HostSocketOptions) {
    this.#options = options;
  }

  info(): Promise<HostInfo> {
    const signal = AbortSignal.timeout(this.#options.infoMs ?? 30_000);
    return this.#call('GET', '/v1/host', undefined, signal) as Promise<HostInfo>;
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
    const { promise, resolve, reject } = Promise.withResolvers<[status: number, body: string]>();
    const call = request({
      socketPath: this.#options.path,
      method,
      path,
      ...(signal ? { signal } : {}),
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
    });
    call.once('error', (error) => reject(hasCode(error, ...goneCodes) ? this.#options.gone(error) : error));
    call.once('response', (answer) => {
      text(answer).then((said) => resolve([answer.statusCode ?? 0, said]), reject);
    });
    call.end(body === undefined ? undefined : JSON.stringify(body));
    const [status, said] = await promise;
    if (status >= 400) throw refusalOf(said) ?? new Error(`The host agent answered ${status}.`);
    return said === '' ? undefined : JSON.parse(said);
  }
}
