/** Lists of pages. */
import { pageBytes, type Run } from './mapping.ts';

/**
 * Holds that runs are whole pages within the memory, from the lowest up, without overlap, none of them empty.
 * @throws RangeError
 */
export function assertRuns(runs: readonly Run[], memoryBytes: number): void {
  let end = 0;
  for (const { offset, length } of runs) {
    if (offset % pageBytes !== 0 || length % pageBytes !== 0 || !(length > 0)) {
      throw new RangeError(`Not a run of whole pages: ${length} bytes at ${offset}`);
    }
    if (!(offset >= end)) throw new RangeError(`Runs overlap or are not sorted at ${offset}`);
    end = offset + length;
    if (!(end <= memoryBytes))
      throw new RangeError(`A run ends at ${end}, past the memory of ${memoryBytes}`);
  }
}
