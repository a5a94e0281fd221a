import type { ApiKey, ApiKeyList, Health, Host, HostList, NewApiKey } from '@perch/protocol';
import { Http, type PerchOptions, type RequestOptions } from './http.ts';
import { Sandboxes } from './sandboxes.ts';
import { Snapshots } from './snapshots.ts';
import { Templates } from './templates.ts';

/**
 * Client of Perch. URL and key are those given, else PERCH_URL and PERCH_API_KEY, else those of the user's
 * config file. Calls throw PerchError (the server's word), ConnectionError, or UnexpectedAnswerError; each has
 * a `remedy`.
 */
export class Perch {
  readonly sandboxes: Sandboxes;
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  readonly #http: Http;

  constructor(options: PerchOptions = {}) {
    this.#http = new Http(options);
    this.sandboxes = new Sandboxes(this.#http);
    this.snapshots = new Snapshots(this.#http);
    this.templates = new Templates(this.#http);
  }

  /** Where requests go. */
  async url(): Promise<string> {
    return (await this.#http.config()).url;
  }

  /** Whether a sandbox could be created now. Needs no key. */
  async health(options: RequestOptions = {}): Promise<Health> {
    return this.#http.json('GET', '/health', { timeoutMs: 10_000, ...options, accept: [503] });
  }

  readonly hosts = {
    list: (options: RequestOptions = {}): Promise<Host[]> => this.#items<HostList>('/v1/hosts', options),
  };

  readonly apiKeys = {
    list: (options: RequestOptions = {}): Promise<ApiKey[]> =>
      this.#items<ApiKeyList>('/v1/api-keys', options),
    /** The key is in this answer and never again. */
    create: (name: string, options: RequestOptions = {}): Promise<NewApiKey> =>
      this.#http.json('POST', '/v1/api-keys', { ...options, json: { name } }),
    delete: (id: string, options: RequestOptions = {}): Promise<void> =>
      this.#http.done('DELETE', `/v1/api-keys/${encodeURIComponent(id)}`, options),
  };

  async #items<T extends { items: unknown[] }>(path: string, options: RequestOptions): Promise<T['items']> {
    return (await this.#http.json<T>('GET', path, { ...options, repeatable: true })).items;
  }
}
