import type { Health } from '@perch/protocol';
import { type Finding, ok, problem, warning } from './finding.ts';

const name = 'perchd';

/**
 * A control plane's words on itself.
 * @param remedy of what it finds wrong
 */
export function perchd(url: string, health: Health, remedy: string): Finding {
  const { version, status, problems } = health;
  if (status === 'ok') return ok(name, `${version} at ${url}, a sandbox can be created`);
  if (status !== 'full') return problem(name, problems.join('; '), remedy);
  return warning(name, `${version}; ${problems.join('; ')}`, 'Destroy some: `perch ls`, `perch rm`.');
}

/** @param make how much it matters: nobody may have started one, or somebody relies on it */
export function silentPerchd(url: string, make: typeof warning, remedy: string): Finding {
  return make(name, `does not answer at ${url}`, remedy);
}
