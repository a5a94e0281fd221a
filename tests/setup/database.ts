/** The content of the embedded PostgreSQL of a Perch, past perchd. */
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { connect, type Database } from '../../apps/control-plane/src/database/index.ts';
import { dataPaths } from '../../packages/protocol/src/index.ts';
import { hostSandboxes } from './machine.ts';
import type { PerchInstance } from './perch-instance.ts';

const waitMs = 10_000;

/** @throws what `work` throws */
export async function inDatabase<T>(dataDir: string, work: (db: Database) => Promise<T>): Promise<T> {
  const host = join(dataPaths(dataDir).control, 'pg');
  const log = { warn: console.warn } as Parameters<typeof connect>[1];
  const database = connect({ host, user: 'perch', database: 'postgres' }, log);
  try {
    return await work(database);
  } finally {
    await database.destroy();
  }
}

/** There are rows of the sandboxes that the host has and of no others, nothing of those that are gone can be used, and no key waits. */
export async function expectRows({ dataDir }: PerchInstance): Promise<void> {
  await inDatabase(dataDir, (db) =>
    vi.waitFor(
      async () => {
        const rows = await db.selectFrom('sandboxes').selectAll().execute();
        const live = rows.filter(({ status }) => status !== 'destroyed');
        const briefly = (all: readonly { id: string; status: string }[]) =>
          all.map(({ id, status }) => `${id} ${status}`).sort();
        expect(briefly(live), 'rows of sandboxes').toEqual(briefly(await hostSandboxes(dataDir)));
        const gone = rows.filter(({ status }) => status === 'destroyed');
        const usable = gone.filter((row) => row.access_token || row.next_access_token || row.host_ip);
        expect(usable, 'rows of what is gone').toEqual([]);
        const keys = await db.selectFrom('idempotency_keys').selectAll().execute();
        const waiting = keys.filter(({ answered }) => !answered);
        expect(waiting, 'keys that were repeated until they were answered').toEqual([]);
      },
      { timeout: waitMs },
    ),
  );
}
