/** One perchd on one state directory. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError } from './config/index.ts';

/** SQLITE_BUSY of sqlite3.h. */
const busy = 5;

/**
 * Holds the directory until it is disposed of. The lock is one of the kernel's, that SQLite takes on an empty database:
 * it ends with the process, however that ends, and no child inherits it.
 * @throws ConfigError when another has it
 */
export function lockDirectory(dir: string): Disposable {
  const database = new DatabaseSync(join(dir, 'perchd.lock'));
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if ((error as { errcode?: number }).errcode !== busy) throw error;
    throw new ConfigError(`a perchd already works in ${dir}: stop it, or set another PERCH_DATA_DIR`);
  }
  return { [Symbol.dispose]: () => database.close() };
}
