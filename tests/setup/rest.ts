/** Plain requests to the shared Perch, for what the SDK would hide. */
import type { ErrorBody, Sandbox, SandboxList } from '../../packages/protocol/src/index.ts';
import { sandboxStatuses } from '../../packages/protocol/src/index.ts';
import { shared } from './shared.ts';

export type RestInit = RequestInit & { json?: unknown; duplex?: 'half' };

/** With the key; `json` makes it a POST unless a method is named. */
export function rest(path: string, { json, ...init }: RestInit = {}): Promise<Response> {
  const { url, key } = shared;
  const headers = new Headers(init.headers);
  if (!headers.has('x-api-key')) headers.set('x-api-key', key);
  if (json === undefined) return fetch(`${url}${path}`, { ...init, headers });
  headers.set('content-type', 'application/json');
  return fetch(`${url}${path}`, { method: 'POST', ...init, headers, body: JSON.stringify(json) });
}

export interface Refusal {
  status: number;
  code: string;
  message: string;
  remedy: string;
  details: Record<string, unknown>;
}

/** The error of an answer. @throws Error when it is not an error of the one form */
export async function refusal(answer: Response): Promise<Refusal> {
  return refusalOf(answer.status, answer.headers.get('content-type'), await answer.text());
}

export function refusalOf(status: number, type: string | null | undefined, text: string): Refusal {
  if (!type?.startsWith('application/json')) throw new Error(`${status}, ${type}: ${text}`);
  const { error, ...more } = JSON.parse(text) as ErrorBody;
  const { code, message, remedy, details } = error;
  for (const [name, value] of Object.entries({ code, message, remedy })) {
    if (typeof value !== 'string' || value === '') throw new Error(`no ${name}: ${text}`);
  }
  if (Object.keys(more).length > 0) throw new Error(`more than an error: ${text}`);
  return { status, code, message, remedy, details: details ?? {} };
}

/** Ids of the newest sandboxes of any status: what a create changes, also one that was taken back. */
export async function newestIds(): Promise<string[]> {
  const answer = await rest(`/v1/sandboxes?limit=100&status=${sandboxStatuses.join(',')}`);
  return ((await answer.json()) as SandboxList).items.map(({ id }: Sandbox) => id);
}
