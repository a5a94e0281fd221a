/** What one VM counts on its way into the sums: of its Firecracker by a FIFO in the jail, of its pager by a file. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Counters } from '../counters.ts';
import { countsOfPager, type PagerCounts } from '../pager/index.ts';
import { drainFifo } from './console.ts';
import { CountedLines } from './counts.ts';
import { type Jail, jailed, jailRoot } from './jail.ts';

const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export class VmCounts {
  readonly #jail: Jail;
  readonly #counters: Counters;
  readonly #lines: CountedLines;
  /** Of its pager, as far as they are in the sums. */
  #before: Partial<PagerCounts> = {};
  /** Whether it has counted for an earlier host agent. */
  #isFound: boolean;

  constructor(of: Jail & { counters: Counters }, isFound: boolean) {
    this.#jail = of;
    this.#counters = of.counters;
    this.#lines = new CountedLines(of.counters);
    this.#isFound = isFound;
  }

  /** @throws when the FIFO cannot be read */
  async take(): Promise<void> {
    await this.takePagers();
    await using file = await open(join(jailRoot(this.#jail), jailed.metrics), flags);
    if (!(await file.stat()).isFIFO()) throw new Error('What Firecracker counts into is no FIFO');
    await drainFifo(file, (bytes) => this.#lines.take(bytes));
  }

  /** Also after its end. */
  async takePagers(): Promise<void> {
    const counts = await countsOfPager(this.#jail.dir);
    if (!counts) return;
    const before = this.#isFound ? counts : this.#before;
    for (const [name, value] of Object.entries(counts)) {
      this.#counters.add('pager', name, value - (before[name as keyof PagerCounts] ?? 0));
    }
    this.#before = counts;
    this.#isFound = false;
  }
}
