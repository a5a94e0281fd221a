import type { User } from '@perch/node-kit';
import { renewCertificate, type TlsFiles } from '../tls/index.ts';

/**
 * A certificate that cannot be renewed keeps nothing from starting: it is good for weeks yet, and the obstacle may pass.
 * @param tell gets the problem
 * @returns whether it was renewed
 */
export async function renewOrTell(
  files: TlsFiles,
  owner: User,
  tell: (problem: string) => void,
): Promise<boolean> {
  try {
    return await renewCertificate(files, owner);
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error));
    return false;
  }
}
