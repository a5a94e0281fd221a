import { PerchError, type Template } from '@perch/protocol';
import type { HostClient, HostInfo } from './client.ts';

const freshMs = 1_000;

/**
 * What the host last told of itself. Callers that come at once share one question; an answer is good for a
 * second, so that health checks cost nothing.
 */
export class HostDirectory {
  readonly #client: HostClient;
  #last: { at: number; info: HostInfo } | undefined;
  #asking: Promise<HostInfo> | undefined;

  constructor(client: HostClient) {
    this.#client = client;
  }

  /** The last answer, of any age. */
  get known(): HostInfo | undefined {
    return this.#last?.info;
  }

  async info(): Promise<HostInfo> {
    if (this.#last && Date.now() - this.#last.at < freshMs) return this.#last.info;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** The template of that name, asked for anew before it is called unknown. */
  async template(name: string): Promise<{ hostId: string; template: Template }> {
    for (const info of [this.known, undefined]) {
      const { host_id, templates } = info ?? (await this.info());
      const template = templates.find((candidate) => candidate.name === name);
      if (template) return { hostId: host_id, template };
    }
    throw new PerchError('template_not_found', `No template "${name}".`, { template: name });
  }

  async #ask(): Promise<HostInfo> {
    const info = await this.#client.info();
    this.#last = { at: Date.now(), info };
    return info;
  }
}
