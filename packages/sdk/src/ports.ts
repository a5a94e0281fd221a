/** Servers in a sandbox: which there are, and connections to them. */
import type { SandboxPort, SandboxPorts } from '@perch/protocol';
import type { Http, RequestOptions } from './http.ts';
import { itemsOf } from './pages.ts';
import { PortStream } from './port-stream.ts';

export interface PortFilter {
  limit?: number | undefined;
  cursor?: string | undefined;
}

export class Ports {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** One page of the ports that programs listen on, by number. */
  list(id: string, filter: PortFilter = {}, options: RequestOptions = {}): Promise<SandboxPorts> {
    const { limit, cursor } = filter;
    return this.#http.json('GET', at(id), { ...options, query: { limit, cursor }, repeatable: true });
  }

  /** All pages. */
  all(id: string, options: RequestOptions = {}): AsyncGenerator<SandboxPort> {
    return itemsOf((cursor) => this.list(id, { limit: 1000, cursor }, options));
  }

  /**
   * The URL of a port, whether or not something listens there.
   * @returns headers that requests to it need, beside
   */
  async url(
    id: string,
    port: number,
    options: RequestOptions = {},
  ): Promise<{ url: string; headers: Record<string, string> }> {
    const { url_pattern, traffic_token } = await this.list(id, { limit: 1 }, options);
    return {
      url: url_pattern.replace('{port}', String(port)),
      headers: traffic_token === null ? {} : { 'e2b-traffic-access-token': traffic_token },
    };
  }

  /**
   * A TCP connection to a port, whatever it carries. Resolves when the program there has taken it. In Node only.
   * @throws PerchError `port_closed`, `sandbox_not_running`, `sandbox_busy`
   */
  connect(id: string, port: number): Promise<PortStream> {
    return PortStream.open(this.#http, id, port);
  }
}

const at = (id: string) => `/v1/sandboxes/${encodeURIComponent(id)}/ports`;
