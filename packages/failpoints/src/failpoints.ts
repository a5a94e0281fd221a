/**
 * Ends this process as `kill -9` does when it gets to a named place, or holds it there: for tests of what is left
 * then, and of what another process leaves that ends just then. Nothing is armed unless somebody asks for it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';

interface Armed<Name> {
  name: Name;
  /** The `count`-th time that the place is reached. */
  count: number;
  holds: boolean;
}

/** As long as a process is held at most, and how often it looks whether it still is, milliseconds. */
const mostHeldMs = 60_000;
const lookEveryMs = 2;

/** The places of one program, by name. */
export class Failpoints<Name extends string> {
  readonly #names: readonly Name[];
  #reached: ((name: Name) => void) | undefined;

  /** @throws Error for a name that is there twice */
  constructor(names: readonly Name[]) {
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw new Error(`There are two failpoints ${twice}.`);
    this.#names = names;
  }

  /** To be called at the place. Does nothing, or does not return, or not soon. */
  reach(name: Name): void {
    this.#reached?.(name);
  }

  /** @param text `name` or `name:count`, then ` hold` @throws Error with all names for one that there is not */
  parse(text: string): Armed<Name> {
    const [, given, count = '1', hold] = /^([^: ]*)(?::([1-9]\d{0,5}))?( hold)?$/.exec(text) ?? [];
    const name = this.#names.find((one) => one === given);
    if (name === undefined) {
      throw new Error(
        `${text} is no failpoint. Say NAME or NAME:COUNT, and hold after it; there are: ${this.#names.join(', ')}.`,
      );
    }
    return { name, count: Number(count), holds: hold !== undefined };
  }

  /**
   * Arms what a file says whenever a place is reached: a line each, of which the first is armed. It is taken out
   * before the process ends, so that the next process meets the line after it. A process that is held says where in
   * `heldFile`, and goes on when somebody else takes the line out.
   */
  armFrom(file: string, end: () => void = endNow, heldMs = mostHeldMs): void {
    this.#reached = (name) => {
      const [first, ...others] = lines(file);
      if (first === undefined) return;
      const { name: armed, count, holds } = this.parse(first);
      if (armed !== name) return;
      if (count > 1) return write(file, [`${name}:${count - 1}${holds ? ' hold' : ''}`, ...others]);
      if (holds && hold(file, first, heldMs)) return;
      write(file, others);
      if (!holds) end();
    };
  }
}

/** Where a process is that is held, and nowhere else. */
export function heldFile(file: string): string {
  return `${file}.held`;
}

/** Nothing else happens in this process meanwhile. @returns false when nobody took the line out in time */
function hold(file: string, line: string, ms: number): boolean {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const deadline = performance.now() + ms;
  let isHeld = true;
  writeFileSync(heldFile(file), `${line}\n`);
  while (isHeld && performance.now() < deadline) {
    Atomics.wait(clock, 0, 0, lookEveryMs);
    isHeld = lines(file)[0] === line;
  }
  rmSync(heldFile(file));
  return !isHeld;
}

function endNow(): void {
  process.kill(process.pid, 'SIGKILL');
}

function write(file: string, armed: readonly string[]): void {
  if (armed.length > 0) writeFileSync(file, `${armed.join('\n')}\n`);
  else rmSync(file);
}

function lines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
