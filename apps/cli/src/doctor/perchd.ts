import type { Health } from '@perch/protocol';
import { type Finding, ok, problem, warning } from './finding.ts';

/**
 * What a control plane says of itself.
 * @param health undefined when it does not answer
 * @param remedy of what it finds wrong
 */
export function perchd(url: string, health: Health | undefined, remedy: string): Finding {
  const name = 'perchd';
  if (health === undefined) {
    return warning(name, `does not answer at ${url}`, 'Start Perch: `perch up`, as root.');
  }
  const { version, status, problems } = health;
  if (status === 'ok') return ok(name, `${version} at ${url}, a sandbox can be created`);
  if (status !== 'full') return problem(name, problems.join('; '), remedy);
  return warning(name, `${version}; ${problems.join('; ')}`, 'Destroy some: `perch ls`, `perch rm`.');
}
