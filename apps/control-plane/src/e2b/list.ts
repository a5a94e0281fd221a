/** Queries of E2B's lists. */
import { Type } from 'typebox';
import { decodeCursor } from '../sandboxes/index.ts';
import { checker, validationError } from '../validation/index.ts';
import { type State, statesOf } from './view.ts';

const Query = Type.Object(
  {
    metadata: Type.Optional(Type.String()),
    state: Type.Optional(Type.String()),
    startedAfter: Type.Optional(Type.String()),
    template: Type.Optional(Type.String()),
    order: Type.Optional(Type.Enum(['asc', 'desc'])),
    limit: Type.Optional(Type.String({ pattern: '^\\d{1,6}$' })),
    nextToken: Type.Optional(Type.String({ maxLength: 512 })),
  },
  { additionalProperties: false },
);
const check = checker(Query, 'the query');

const wrong = (where: string, message: string) => validationError([{ where, message }]);

/** @param everywhere states when the query names none */
export function readList(query: unknown, everywhere: readonly State[]) {
  const { metadata, state, startedAfter, template, order = 'desc', limit, nextToken } = check(query);
  return {
    statuses: readStates(state, everywhere).flatMap((one) => statesOf[one]),
    metadata: readMetadata(metadata),
    startedFrom: readTime(startedAfter),
    template,
    byStart: order as 'asc' | 'desc',
    limit: readLimit(limit),
    after: nextToken ? decodeCursor(nextToken) : undefined,
  };
}

export function readLimit(limit: string | undefined): number {
  const number = Number(limit ?? 100);
  if (number >= 1 && number <= 100) return number;
  throw wrong('limit', `must be an integer between 1 and 100, got ${number}`);
}

function readStates(text: string | undefined, everywhere: readonly State[]): readonly State[] {
  if (!text) return everywhere;
  return text.split(',').map((state) => {
    if (state === 'running' || state === 'paused') return state;
    throw wrong('state', 'must be running, paused or both, with a comma between');
  });
}

/** Names and values are encoded once by themselves, once as a form, and once as a parameter, which the server has undone. */
export function readMetadata(text: string | undefined): Record<string, string> {
  const labels: Record<string, string> = {};
  try {
    for (const [name, value] of new URLSearchParams(text ?? '')) {
      labels[decodeURIComponent(name)] = decodeURIComponent(value);
    }
  } catch {
    throw wrong('metadata', 'must be names and values, each percent-encoded, as a form');
  }
  if (
    Object.entries(labels)
      .flat()
      .some((part) => part.includes('\0'))
  ) {
    throw wrong('metadata', 'must be without NUL');
  }
  return labels;
}

function readTime(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (/^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(time.getTime())) return time;
  throw wrong('startedAfter', 'must be a time of RFC 3339');
}
