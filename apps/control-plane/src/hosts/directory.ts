import type { HostClient } from '@perch/host-client';
import { type HostInfo, isPerchError, PerchError, type Snapshot, type Template } from '@perch/protocol';

const freshMs = 1_000;

/** An image, or a sandbox as it was. */
export type Source = { hostId: string; image: Template } | { hostId: string; snapshot: Snapshot };

/**
 * The host's last word on itself. Callers that come at once share one question; an answer is good for a
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

  /** The source of that name, asked for anew before it is called unknown. */
  async source(name: string): Promise<Source> {
    for (const info of [this.known, undefined]) {
      const { host_id: hostId, templates } = info ?? (await this.info());
      const image = templates.find((candidate) => candidate.name === name);
      if (image) return { hostId, image };
    }
    const { host_id: hostId } = await this.info();
    try {
      return { hostId, snapshot: await this.#client.describeSnapshot(name) };
    } catch (cause) {
      if (!isPerchError(cause, 'snapshot_not_found')) throw cause;
      throw new PerchError('template_not_found', `No template "${name}".`, { template: name });
    }
  }

  async #ask(): Promise<HostInfo> {
    const info = await this.#client.info();
    this.#last = { at: Date.now(), info };
    return info;
  }
}
