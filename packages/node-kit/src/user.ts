import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export interface User {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** getent(1): the key is not in the database. */
const notFound = 2;

/** A user of this machine, as its name service knows it: files, LDAP and others. Undefined when there is none. */
export async function findUser(name: string): Promise<User | undefined> {
  try {
    const { stdout } = await promisify(execFile)('getent', ['passwd', '--', name]);
    const [, , uid, gid, , home] = stdout.trim().split(':');
    return { name, uid: Number(uid), gid: Number(gid), home: home || '/' };
  } catch (error) {
    if ((error as { code?: unknown }).code === notFound) return undefined;
    throw error;
  }
}
