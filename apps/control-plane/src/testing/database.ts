import { pino } from 'pino';
import type { Config } from '../config/index.ts';
import { connect, type Database, EmbeddedPostgres } from '../database/index.ts';
import { databaseOwner } from '../database-owner.ts';

/** Changes what a perchd that is down finds when it starts again. */
export async function inDatabase(
  { controlDir, postgresDir }: Config,
  work: (db: Database) => Promise<unknown>,
): Promise<void> {
  const log = pino({ level: 'silent' });
  await using server = await EmbeddedPostgres.start({
    controlDir,
    postgresDir,
    owner: await databaseOwner(),
    log,
  });
  const db = connect(server.address, log);
  await work(db);
  await db.destroy();
}
