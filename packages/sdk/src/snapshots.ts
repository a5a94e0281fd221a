import {
  type ConvertSnapshot,
  type CreateSnapshot,
  type NewSnapshot,
  remakeAnyDiskMs,
  type Snapshot,
  type SnapshotList,
  type SnapshotType,
} from '@perch/protocol';
import type { Http, RequestOptions } from './http.ts';
import { itemsOf } from './pages.ts';

export interface SnapshotOptions extends RequestOptions {
  /** Whether it takes the place of one of that name. */
  overwrite?: boolean;
}

export interface SnapshotFilter {
  /** Only these; all by default. */
  type?: SnapshotType | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** A snapshot writes all of a guest's memory, which on a slow disk takes its time. */
const createTimeoutMs = 300_000;

/** The sources of sandboxes: images, and snapshots of sandboxes. */
export class Snapshots {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /**
   * Resolves when it is there; the sandbox is as before, after a moment's standstill if it runs.
   * @throws PerchError `snapshot_exists`, `sandbox_not_running`, `capacity_exhausted`, `host_disk_full`, `snapshot_failed`
   */
  create(request: CreateSnapshot, options: SnapshotOptions = {}): Promise<NewSnapshot> {
    const { overwrite, ...rest } = options;
    const query = { overwrite: overwrite === undefined ? undefined : String(overwrite) };
    return this.#http.json('POST', '/v1/snapshots', {
      ...{ timeoutMs: createTimeoutMs, ...rest },
      ...{ query, json: request },
    });
  }

  /** One page, by name. */
  list(filter: SnapshotFilter = {}, options: RequestOptions = {}): Promise<SnapshotList> {
    const { type, limit, cursor } = filter;
    const query = { type, limit, cursor };
    return this.#http.json('GET', '/v1/snapshots', { ...options, query, repeatable: true });
  }

  /** All pages. */
  all(filter: Omit<SnapshotFilter, 'cursor'> = {}, options: RequestOptions = {}): AsyncGenerator<Snapshot> {
    return itemsOf((cursor) => this.list({ limit: 100, ...filter, cursor }, options));
  }

  /** @throws PerchError `snapshot_not_found` */
  get(name: string, options: RequestOptions = {}): Promise<Snapshot> {
    return this.#http.json('GET', at(name), { ...options, repeatable: true });
  }

  /**
   * Resolves when its disk is one file that needs no image below it.
   * @throws PerchError `snapshot_not_found`, `snapshot_in_use`
   */
  flatten(name: string, options: RequestOptions = {}): Promise<Snapshot> {
    return this.#http.json('POST', `${at(name)}/flatten`, { timeoutMs: remakeAnyDiskMs, ...options });
  }

  /**
   * Resolves when the layers of its disk have this format. One whose disk stands alone has none, and stays as it is.
   * @throws PerchError `snapshot_not_found`, `snapshot_in_use`, `conversion_failed`
   */
  convert(name: string, request: ConvertSnapshot, options: RequestOptions = {}): Promise<Snapshot> {
    return this.#http.json('POST', `${at(name)}/convert`, {
      ...{ timeoutMs: remakeAnyDiskMs, ...options },
      json: request,
    });
  }

  /** Sandboxes that were made from it live on. @throws PerchError `snapshot_not_found`, `snapshot_in_use` */
  delete(name: string, options: RequestOptions = {}): Promise<void> {
    return this.#http.done('DELETE', at(name), options);
  }
}

function at(name: string): string {
  return `/v1/snapshots/${encodeURIComponent(name)}`;
}
