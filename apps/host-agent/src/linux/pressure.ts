/** How short the machine is of something, by the kernel's own account: Documentation/accounting/psi.rst. */
import { readFileSync } from 'node:fs';
import { hasCode } from '@perch/node-kit';

const folder = '/proc/pressure';
/** Of a kernel that was built without it, and of one that was told to do without. */
const missing = ['ENOENT', 'EOPNOTSUPP'];

/**
 * @param file only for tests
 * @returns percent of the last 10 s in which some process waited for it; undefined where the kernel does not say
 */
export function pressureOf(resource: 'cpu' | 'memory', file = `${folder}/${resource}`): number | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (missing.some((code) => hasCode(error, code))) return undefined;
    throw error;
  }
  const average = /^some avg10=(\d+(?:\.\d+)?) /m.exec(text)?.[1];
  return average === undefined ? undefined : Number(average);
}
