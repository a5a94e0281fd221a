import { PerchError } from '@perch/protocol';

/** The error that an answer of the host agent tells; undefined when it is none of its own. */
export function refusalOf(text: string): PerchError | undefined {
  try {
    return PerchError.fromBody(JSON.parse(text));
  } catch {
    return undefined;
  }
}
