/** Guests that stand ready for a create, told by /proc alone. */
import { eventually } from './eventually.ts';
import { monitors, needsNoCpu } from './machine.ts';

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
    const before = look();
    if (before.length !== count) return false;
    const stand = await Promise.all(before.map(([, pid]) => needsNoCpu(pid, 300)));
    const isSame = look().join() === before.join();
    return isSame && stand.every(Boolean) && before.map(([name]) => name);
  }, withinMs);
}
