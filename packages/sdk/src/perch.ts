import type {
  ApiKey,
  ApiKeyList,
  Health,
  Host,
  HostList,
  NewApiKey,
  Template,
  TemplateList,
} from '@perch/protocol';
import { readClientConfig } from './config.ts';
import { Sandboxes } from './sandboxes.ts';
import { Transport, type TransportOptions } from './transport.ts';

/**
 * A client of Perch.
 *
 * ```ts
 * const perch = new Perch();
 * const { id } = await perch.sandboxes.create();
 * const { stdout } = await perch.sandboxes.exec(id, { cmd: 'python3', args: ['-c', 'print(6 * 7)'] });
 * ```
 */
export class Perch {
  readonly sandboxes: Sandboxes;
  readonly #http: Transport;

  /** Without options: PERCH_URL and PERCH_API_KEY, or what `perch up` wrote to the user's config. */
  constructor(options: Partial<TransportOptions> = {}) {
    const { url, apiKey } = options.url && options.apiKey ? options : { ...readClientConfig(), ...options };
    this.#http = new Transport({ ...options, url: url ?? '', apiKey });
    this.sandboxes = new Sandboxes(this.#http);
  }

  get url(): string {
    return this.#http.url;
  }

  async templates(): Promise<Template[]> {
    return (await this.#http.json<TemplateList>('GET', '/v1/templates')).items;
  }

  async hosts(): Promise<Host[]> {
    return (await this.#http.json<HostList>('GET', '/v1/hosts')).items;
  }

  async apiKeys(): Promise<ApiKey[]> {
    return (await this.#http.json<ApiKeyList>('GET', '/v1/api-keys')).items;
  }

  createApiKey(name: string): Promise<NewApiKey> {
    return this.#http.json('POST', '/v1/api-keys', { body: { name } });
  }

  async deleteApiKey(id: string): Promise<void> {
    await this.#http.json('DELETE', `/v1/api-keys/${encodeURIComponent(id)}`);
  }

  /** Also when a sandbox could not be created: the answer then says why. */
  async health(): Promise<Health> {
    const answer = await fetch(`${this.url}/health`);
    return (await answer.json()) as Health;
  }
}
