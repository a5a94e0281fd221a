import { rename, writeFile } from 'node:fs/promises';
import { firstKeyFile } from '../config/index.ts';
import { type ApiKeys, newKey } from './keys.ts';

/**
 * Makes sure that somebody can ask: the key of the setting, or at the first start one that is left in a
 * file for the launcher. The file is whole before the key is in the database, so that a crash in between
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
  const key = newKey();
  const file = firstKeyFile(controlDir);
  await writeFile(`${file}.new`, `${key}\n`, { mode: 0o600, flush: true });
  await rename(`${file}.new`, file);
  await keys.add('first key', key);
}
