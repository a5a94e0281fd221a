/** Samples of a subject and of its floor, in turn, so that what else the machine does falls on both alike. */

export type Sample = () => Promise<number>;

export interface InTurn {
  /** Of each. */
  n: number;
  /** Turns before the first that counts: caches fill and hot code is compiled. */
  warmUp: number;
  signal: AbortSignal;
}

/** Who goes first alternates as well: neither always finds the caches that the other left. */
export async function inTurn(subject: Sample, floor: Sample, { n, warmUp, signal }: InTurn) {
  const samples: number[] = [];
  const floorSamples: number[] = [];
  for (let turn = -warmUp; turn < n; turn++) {
    signal.throwIfAborted();
    const pair = [
      { sample: subject, into: samples },
      { sample: floor, into: floorSamples },
    ];
    for (const { sample, into } of turn % 2 === 0 ? pair : pair.reverse()) {
      const value = await sample();
      if (turn >= 0) into.push(value);
    }
  }
  return { samples, floor: floorSamples };
}

/** @returns milliseconds */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}
