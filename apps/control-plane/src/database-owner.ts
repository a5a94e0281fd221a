import { findUser } from '@perch/node-kit';
import type { Owner } from './database/index.ts';

const nobody = 65_534;

/** PostgreSQL refuses root: then it runs as `perch`, or as nobody where there is no such user. */
export async function databaseOwner(): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const { uid, gid } = (await findUser('perch')) ?? { uid: nobody, gid: nobody };
  return { uid, gid };
}
