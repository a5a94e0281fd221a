/** What a copy leaves out or changes, on standard error. A guest names as many files as it likes, by names of any length. */
import { quoted } from '@perch/node-kit';

/** Lines of one kind. */
const mostLines = 20;
/** Of a name, characters. */
const longestName = 1000;

export class Notices implements Disposable {
  readonly #write: (line: string) => void;
  readonly #counts = new Map<string, number>();

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** @param what comes before the path, and is the same for all of its kind */
  tell(what: string, path: string): void {
    const count = (this.#counts.get(what) ?? 0) + 1;
    this.#counts.set(what, count);
    if (count <= mostLines) this.#write(`${what}: ${quoted(path, longestName)}\n`);
  }

  /** Counts those that were not told. */
  [Symbol.dispose](): void {
    for (const [what, count] of this.#counts) {
      if (count > mostLines) this.#write(`${what}: ${count - mostLines} more\n`);
    }
    this.#counts.clear();
  }
}
