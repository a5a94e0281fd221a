/**
 * Ends this process as `kill -9` does when it gets to a named place: for tests of what is left then. Nothing is
 * armed unless the environment asks for it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type Failpoint, failpoints, isFailpoint } from './names.ts';

/** The `count`-th time that the place is reached. */
interface Armed {
  name: Failpoint;
  count: number;
}

let reached: ((name: Failpoint) => void) | undefined;

/** Does nothing, or does not return. */
export function failpoint(name: Failpoint): void {
  reached?.(name);
}

/** @param text `name` or `name:count` @throws Error with all names for one that there is not */
export function parseFailpoint(text: string): Armed {
  const [, name = '', count = '1'] = /^([^:]*)(?::([1-9]\d{0,5}))?$/.exec(text) ?? [];
  if (!isFailpoint(name)) {
    throw new Error(`${text} is no failpoint. Say NAME or NAME:COUNT; there are: ${failpoints.join(', ')}.`);
  }
  return { name, count: Number(count) };
}

/**
 * Arms what a file says whenever a place is reached: a line each, `name` or `name:count`, of which the first is
 * armed. It is taken out before the process ends, so that the next process meets the line after it.
 */
export function armFailpointsOf(file: string, end: () => void = endNow): void {
  reached = (name) => {
    const [first, ...others] = lines(file);
    if (first === undefined) return;
    const armed = parseFailpoint(first);
    if (armed.name !== name) return;
    const left = armed.count > 1 ? [`${name}:${armed.count - 1}`, ...others] : others;
    if (left.length > 0) writeFileSync(file, `${left.join('\n')}\n`);
    else rmSync(file);
    if (armed.count === 1) end();
  };
}

/** Nothing is armed any more. */
export function disarmFailpoints(): void {
  reached = undefined;
}

function endNow(): void {
  process.kill(process.pid, 'SIGKILL');
}

function lines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
