/** Ends a daemon at a named place, or holds it there, while it is asked for what gets it there. */
import { chmodSync, existsSync, renameSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { heldFile } from '../../packages/failpoints/src/index.ts';
import { slowness } from './slowness.ts';

export interface Way<Name> {
  /** Gets to the place. @returns ids of the sandboxes that it has made */
  call: () => Promise<string[]>;
  /** Where the daemon ends before, if it is the next one that gets to the place. */
  after?: Name;
}

/** The outcome of a call: sandboxes that it has made, or that it was not answered well. */
export type Answer = { made: string[] } | { refused: unknown };

/** A boot snapshot is made on the way to some places: a boot, which others on the machine hold up. */
const reachedMs = 120_000 * slowness;

export class Armed<Name extends string> implements AsyncDisposable {
  /** For PERCH_FAILPOINTS, or PERCH_CONTROL_FAILPOINTS. */
  readonly file: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.file = join(folder, 'armed');
  }

  static async make<Name extends string>(): Promise<Armed<Name>> {
    const folder = await mkdtemp(join(tmpdir(), 'perch-failpoints-'));
    // perchd, which has no privilege, takes lines out, too.
    await chmod(folder, 0o777);
    return new Armed(folder);
  }

  /** Resolves when the daemon has ended at the place, and the call has come to an end. */
  async endAt(name: Name, way: Way<Name>): Promise<Answer> {
    return this.#reach(way, name, () => until(() => !existsSync(this.file), `${name} ends nothing`));
  }

  /** Does `meanwhile` when the daemon stands still at the place; resolves when it went on and answered. */
  async holdAt(name: Name, way: Way<Name>, meanwhile: () => Promise<unknown>): Promise<Answer> {
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

  async #reach({ call, after }: Way<Name>, line: string, reached: () => Promise<void>): Promise<Answer> {
    // All at once: it may be read at any time.
    const made = join(this.#folder, 'made');
    writeFileSync(made, [...(after ? [after] : []), line, ''].join('\n'));
    chmodSync(made, 0o666);
    renameSync(made, this.file);
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
