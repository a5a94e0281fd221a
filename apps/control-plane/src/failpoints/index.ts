/** Places where a test can end this process, or hold it. */
import { Failpoints } from '@perch/failpoints';
import { type Failpoint, failpoints } from './names.ts';

export { type Failpoint, failpoints } from './names.ts';

const places = new Failpoints<Failpoint>(failpoints);

/** Does nothing, or does not return, or not soon. */
export function failpoint(name: Failpoint): void {
  places.reach(name);
}

/** As Failpoints.armFrom. */
export function armFailpointsOf(file: string): void {
  places.armFrom(file);
}
