/** The kinds of disk that sandboxes may get, by the value of PERCH_ROOTFS. */
import { deviceMapperObstacle, qcow2Obstacle } from '@perch/node-kit';
import { type Finding, ok, problem } from './finding.ts';

/** A reason against each, with its remedy. */
type Obstacles = Readonly<Record<string, string | undefined>>;

/** The kernel's modules are asked by perch-host alone, for the kind that it takes. */
const found = (): Obstacles => ({
  'device-mapper': deviceMapperObstacle(),
  qcow2: qcow2Obstacle(),
});

export const wantedDisks = () => process.env.PERCH_ROOTFS || 'auto';

export function disks(wanted = wantedDisks(), obstacles = found()): Finding {
  const name = 'kinds of disk';
  const kinds = Object.entries(obstacles);
  const possible = kinds.filter(([, why]) => why === undefined).map(([kind]) => kind);
  const rest = kinds.flatMap(([kind, why]) => (why === undefined ? [] : [`no ${kind}: ${why}`]));
  const detail = [possible.join(' and ') || 'none', ...rest].join('; ');
  if (wanted === 'auto' ? possible.length > 0 : possible.includes(wanted)) return ok(name, detail);
  const values = ['auto', ...Object.keys(obstacles)].join(', ');
  return problem(name, `PERCH_ROOTFS is ${wanted}; ${detail}`, `Mend that, or set it to one of ${values}.`);
}
