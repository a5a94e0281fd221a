/** Guests that stand ready for a create, told by /proc alone. */
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from './eventually.ts';
import { cpuTicksOf, monitors } from './machine.ts';

/**
 * Waits until so many machines stand still.
 * @param sandboxes ids of machines that are somebody's, and do what they do
 * @param withinMs of a machine that has others to make first, more
 * @returns names of the machines that stand ready
 */
export function untilStanding(
  dataDir: string,
  count: number,
  sandboxes: readonly string[] = [],
  withinMs = 60_000,
): Promise<string[]> {
  const look = () => [...monitors(dataDir)].filter(([name]) => !sandboxes.includes(name));
  return eventually(async () => {
    const before = new Map(look().map(([name, pid]) => [name, cpuTicksOf(pid)]));
    await sleep(300);
    const now = look();
    const stand = now.every(([name, pid]) => cpuTicksOf(pid) === before.get(name));
    return stand && now.length === count && now.map(([name]) => name);
  }, withinMs);
}
