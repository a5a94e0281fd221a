/** The way past the control plane to a sandbox's guest agent, as root of the machine has it. */
import { join } from 'node:path';
import { connect } from '../apps/control-plane/src/database/index.ts';
import type { GuestClientOptions } from '../packages/guest-client/src/index.ts';
import { dataPaths } from '../packages/protocol/src/index.ts';
import type { PerchInstance } from '../tests/setup/perch-instance.ts';

/** Address and token are only in the database of the instance. */
export async function accessTo({ dataDir }: PerchInstance, sandboxId: string): Promise<GuestClientOptions> {
  const host = join(dataPaths(dataDir).control, 'pg');
  const log = { warn: console.warn } as Parameters<typeof connect>[1];
  const database = connect({ host, user: 'perch', database: 'postgres' }, log);
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
