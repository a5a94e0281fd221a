import { writeDurably } from '@perch/node-kit';
import { newApiKey } from '@perch/protocol';
import { firstKeyFile } from '../config/index.ts';
import type { ApiKeys } from './keys.ts';

/**
 * Makes sure that somebody can ask: the key of the setting, or at the first start one that is left in a
 * file for the launcher. The file is whole before the key is in the database, so that a crash or a power cut in between
 * leaves no key that nobody knows.
 */
export async function ensureFirstKey(
  keys: ApiKeys,
  given: string | undefined,
  controlDir: string,
): Promise<void> {
  if (given !== undefined) {
    await keys.add('PERCH_API_KEY', given);
    return;
  }
  if (keys.size > 0) return;
  const key = newApiKey();
  await writeDurably(firstKeyFile(controlDir), `${key}\n`);
  await keys.add('first key', key);
}
