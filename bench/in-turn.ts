/** Samples of several ways to do the same, in turn, so that what else the machine does falls on all alike. */

export type Sample = () => Promise<number>;

export interface Turns {
  /** Of each. */
  n: number;
  /** Turns before the first that counts: caches fill and hot code is compiled. */
  warmUp: number;
  signal: AbortSignal;
}

/** Who goes first changes as well: nobody always finds the caches that the same other one left. */
export async function inTurn<Way extends string>(
  ways: Record<Way, Sample>,
  { n, warmUp, signal }: Turns,
): Promise<Record<Way, number[]>> {
  const all = Object.entries(ways) as [Way, Sample][];
  const samples = Object.fromEntries(all.map(([way]) => [way, [] as number[]])) as Record<Way, number[]>;
  for (let turn = -warmUp; turn < n; turn++) {
    const order = all.toSpliced(0, 1).concat(all.slice(0, 1));
    all.splice(0, all.length, ...order);
    for (const [way, sample] of all) {
      signal.throwIfAborted();
      const value = await sample();
      if (turn >= 0) samples[way].push(value);
    }
  }
  return samples;
}

/** @returns milliseconds */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}
