/** The commands of a sandbox, whoever follows them. */
import type { Command, CommandList, CommandStatus, CommandWithOutput } from '@perch/protocol';
import { ExecStream } from './exec/stream.ts';
import type { Http, RequestOptions } from './http.ts';
import { itemsOf } from './pages.ts';

export interface CommandFilter {
  status?: CommandStatus | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export class Commands {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** One page, the newest first: what runs, and what has ended and is still known. */
  list(id: string, filter: CommandFilter = {}, options: RequestOptions = {}): Promise<CommandList> {
    const { status, limit, cursor } = filter;
    return this.#http.json('GET', of(id), { ...options, query: { status, limit, cursor }, repeatable: true });
  }

  /** All pages. */
  all(
    id: string,
    filter: Omit<CommandFilter, 'cursor'> = {},
    options: RequestOptions = {},
  ): AsyncGenerator<Command> {
    return itemsOf((cursor) => this.list(id, { limit: 100, ...filter, cursor }, options));
  }

  /** With the last of its output. @throws PerchError `command_not_found` */
  get(id: string, pid: number, options: RequestOptions = {}): Promise<CommandWithOutput> {
    return this.#http.json('GET', of(id, pid), { ...options, repeatable: true });
  }

  /** Kills it and what it started; one that has ended is left as it is. @throws PerchError `command_not_found` */
  kill(id: string, pid: number, options: RequestOptions = {}): Promise<void> {
    return this.#http.done('DELETE', of(id, pid), { ...options, repeatable: true });
  }

  /**
   * Follows it: what is kept of its output, then what it puts out, and its exit code at last. Leaving it does not
   * end the command. @throws PerchError `command_not_found`
   */
  attach(id: string, pid: number, options: { signal?: AbortSignal } = {}): Promise<ExecStream> {
    return ExecStream.open(this.#http, id, { type: 'attach', pid }, options.signal);
  }
}

function of(id: string, pid?: number): string {
  const all = `/v1/sandboxes/${encodeURIComponent(id)}/commands`;
  return pid === undefined ? all : `${all}/${pid}`;
}
