/** Ends the host agent at a named place, or holds it there, while it is asked for what gets it there. */
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Failpoint, heldFile } from '../../apps/host-agent/src/failpoints/index.ts';

export interface Way {
  /** Gets to the place. @returns ids of the sandboxes that it has made */
  call: () => Promise<string[]>;
  /** Where the host agent ends before, if it is the next one that gets to the place. */
  after?: Failpoint;
}

/** What came of a call: sandboxes that it has made, or that it was not answered well. */
export type Answer = { made: string[] } | { refused: unknown };

const reachedMs = 30_000;

export class Armed implements AsyncDisposable {
  /** For PERCH_FAILPOINTS. */
  readonly file: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.file = join(folder, 'armed');
  }

  static async make(): Promise<Armed> {
    return new Armed(await mkdtemp(join(tmpdir(), 'perch-failpoints-')));
  }

  /** Resolves when the host agent has ended at the place. */
  async endAt(name: Failpoint, way: Way): Promise<Answer> {
    return this.#reach(way, name, () => until(() => !existsSync(this.file), `${name} ends nothing`));
  }

  /** Does `meanwhile` when the host agent stands still at the place; resolves when it went on and answered. */
  async holdAt(name: Failpoint, way: Way, meanwhile: () => Promise<unknown>): Promise<Answer> {
    const held = heldFile(this.file);
    const answer = await this.#reach(way, `${name} hold`, async () => {
      await until(() => existsSync(held), `${name} holds nothing`);
      await meanwhile();
    });
    await until(() => !existsSync(held), `${name} is held for ever`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }

  async #reach({ call, after }: Way, line: string, reached: () => Promise<void>): Promise<Answer> {
    writeFileSync(this.file, [...(after ? [after] : []), line, ''].join('\n'));
    const answer = call().then(
      (made): Answer => ({ made }),
      (refused: unknown): Answer => ({ refused }),
    );
    try {
      await reached();
    } finally {
      await rm(this.file, { force: true });
    }
    return answer;
  }
}

/** The shorter a process is held, the less the others notice. */
async function until(check: () => boolean, otherwise: string): Promise<void> {
  for (const deadline = performance.now() + reachedMs; !check(); await sleep(5)) {
    if (performance.now() > deadline) throw new Error(`${otherwise} within ${reachedMs} ms`);
  }
}
