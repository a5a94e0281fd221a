/** Ways past the control plane, as root of the machine has them. */
import { join } from 'node:path';
import { connect, type Database } from '../apps/control-plane/src/database/index.ts';
import type { GuestClientOptions } from '../packages/guest-client/src/index.ts';
import { dataPaths } from '../packages/protocol/src/index.ts';
import type { PerchInstance } from '../tests/setup/perch-instance.ts';

/** The database of the instance. The caller destroys it. */
export function databaseOf({ dataDir }: PerchInstance): Database {
  const host = join(dataPaths(dataDir).control, 'pg');
  const log = { warn: console.warn } as Parameters<typeof connect>[1];
  return connect({ host, user: 'perch', database: 'postgres' }, log);
}

/** To a sandbox's guest agent: address and token are only in the database. */
export async function accessTo(instance: PerchInstance, sandboxId: string): Promise<GuestClientOptions> {
  const database = databaseOf(instance);
  try {
    const row = await database
      .selectFrom('sandboxes')
      .select(['host_ip', 'access_token'])
      .where('id', '=', sandboxId)
      .executeTakeFirstOrThrow();
    if (row.host_ip === null) throw new Error(`Sandbox ${sandboxId} has no address.`);
    return { address: row.host_ip, accessToken: row.access_token, sandboxId };
  } finally {
    await database.destroy();
  }
}
