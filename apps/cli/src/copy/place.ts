import { isSandboxId } from '@perch/protocol';

/** An end of a copy. */
export type Place =
  | { kind: 'sandbox'; id: string; path: string }
  | { kind: 'file'; path: string }
  | { kind: 'standard' };

/** `ID:PATH` is in a sandbox, `-` is standard input or output; a file of such a name is written with ./ before it. */
export function parsePlace(text: string): Place {
  if (text === '-') return { kind: 'standard' };
  const at = text.indexOf(':');
  const id = text.slice(0, at);
  return at > 0 && isSandboxId(id)
    ? { kind: 'sandbox', id, path: text.slice(at + 1) }
    : { kind: 'file', path: text };
}

/** A path that names a directory gets the name of the source. */
export function withName(path: string, name: string): string {
  return path === '' || path.endsWith('/') ? `${path}${name}` : path;
}
