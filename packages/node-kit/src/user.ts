import { RunError, run } from './run.ts';

export interface User {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** getent(1): the key is not in the database. */
const notFound = 2;

/**
 * A user of this machine, as its name service knows it: files, LDAP and others. Undefined when there is none.
 * @throws RunError when nobody could be asked
 */
export async function findUser(name: string): Promise<User | undefined> {
  try {
    const { stdout } = await run('getent', ['passwd', '--', name]);
    const [, , uid, gid, , home] = stdout.trim().split(':');
    return { name, uid: Number(uid), gid: Number(gid), home: home || '/' };
  } catch (error) {
    if (error instanceof RunError && error.exitCode === notFound) return undefined;
    throw error;
  }
}

/** The line that makes a user for a daemon, with a group of its own. */
export function lineThatAdds(name: string): string {
  return `useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ${name}`;
}
