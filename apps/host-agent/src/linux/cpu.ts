/** Which processor this is, as far as a guest that uses it directly can tell. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const parts = ['vendor_id', 'cpu family', 'model', 'stepping', 'flags'];

/**
 * The same for two processors that offer programs the same. Source: proc_cpuinfo(5).
 * @param cpuinfo of /proc/cpuinfo; only its first processor is read
 */
export function cpuFingerprint(cpuinfo = readFileSync('/proc/cpuinfo', 'latin1')): string {
  const first = cpuinfo.split('\n\n', 1)[0] ?? '';
  const values = parts.map((part) => new RegExp(`^${part}\\s*: (.*)$`, 'm').exec(first)?.[1] ?? '');
  const flags = (values.pop() ?? '').split(' ').sort().join(' ');
  const digest = createHash('sha256').update(flags).digest('hex').slice(0, 16);
  return `${values.join('/')}/${digest}`;
}
