import type { PinReady, ReadyGuests, ReadyGuestsList, Template, TemplateList } from '@perch/protocol';
import type { Http, RequestOptions } from './http.ts';

/** Images, and the guests that stand ready for creates of images and snapshots. */
export class Templates {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(options: RequestOptions = {}): Promise<Template[]> {
    const { items } = await this.#http.json<TemplateList>('GET', '/v1/templates', {
      ...{ ...options, repeatable: true },
    });
    return items;
  }

  /** Ready guests by template and shape: those that stand, that are to, or that were asked for lately. */
  async ready(options: RequestOptions = {}): Promise<ReadyGuests[]> {
    const { items } = await this.#http.json<ReadyGuestsList>('GET', '/v1/ready', {
      ...{ ...options, repeatable: true },
    });
    return items;
  }

  /**
   * Sets how many guests stand ready for creates of an image or a snapshot, for good. Resolves when the number is set; the
   * guests come in the background. A count of null: their number follows the creates of the last minutes again.
   * @throws PerchError `template_not_found`, `shape_mismatch`, `disk_too_small`, `too_many_ready`
   */
  pinReady(name: string, request: PinReady, options: RequestOptions = {}): Promise<ReadyGuests> {
    const path = `/v1/templates/${encodeURIComponent(name)}/ready`;
    return this.#http.json('POST', path, { ...options, json: request, repeatable: true });
  }
}
