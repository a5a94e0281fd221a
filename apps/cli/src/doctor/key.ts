import { type Host, isPerchError } from '@perch/protocol';
import type { Perch } from '@perch/sdk';
import { remedyOf } from '../remedies.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

/**
 * Whether a Perch that answers takes the key of the command line.
 * @returns also its hosts, when it does
 */
export async function key(
  perch: Perch,
  apiKey: string | undefined,
  timeoutMs: number,
): Promise<{ finding: Finding; hosts: Host[] }> {
  const name = 'API key';
  if (apiKey === undefined) {
    return { finding: problem(name, 'none is set', remedyOf('unauthorized')), hosts: [] };
  }
  try {
    const hosts = await perch.hosts.list({ timeoutMs });
    return { finding: ok(name, 'is valid'), hosts };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    if (isPerchError(error, 'unauthorized')) {
      return { finding: problem(name, detail, remedyOf('unauthorized')), hosts: [] };
    }
    return { finding: warning(name, `could not be tried: ${detail}`, 'Try again.'), hosts: [] };
  }
}
