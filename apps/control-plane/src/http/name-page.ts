/** Pages of a list that runs by name. A cursor is the name at which the page before ended. */
import { templateNamePattern } from '@perch/protocol';
import { validationError } from '../validation/index.ts';

export interface NamePage<T> {
  items: T[];
  next_cursor: string | null;
}

const namePattern = new RegExp(templateNamePattern);

/**
 * @param all sorted by name
 * @param cursor of the page before; default: the first page
 * @throws PerchError validation_failed for what is no cursor
 */
export function pageByName<T extends { name: string }>(
  all: readonly T[],
  limit: number,
  cursor: string | undefined,
): NamePage<T> {
  const after = cursor === undefined ? '' : decode(cursor);
  const rest = all.filter(({ name }) => name > after);
  const items = rest.slice(0, limit);
  const last = rest.length > limit ? items.at(-1) : undefined;
  return { items, next_cursor: last ? encode(last.name) : null };
}

function encode(name: string): string {
  return Buffer.from(name).toString('base64url');
}

function decode(cursor: string): string {
  const name = Buffer.from(cursor, 'base64url').toString('latin1');
  if (namePattern.test(name)) return name;
  throw validationError([{ where: 'cursor', message: 'must be the next_cursor of an earlier answer' }]);
}
