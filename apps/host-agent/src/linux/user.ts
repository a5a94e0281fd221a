import { RunError, run } from './run.ts';

/** getent(1): the key is not in the database. */
const notFound = 2;

/**
 * Ids of a user of this machine, as its name service knows it.
 * @throws Error with the line that makes one; RunError when nobody could be asked
 */
export async function lookUpUser(name: string): Promise<{ uid: number; gid: number }> {
  const { stdout } = await run('getent', ['passwd', name]).catch((cause: unknown) => {
    if (!(cause instanceof RunError) || cause.exitCode !== notFound) throw cause;
    throw new Error(`There is no user ${name}. Make it: useradd --system --shell /usr/sbin/nologin ${name}`, {
      cause,
    });
  });
  const [, , uid, gid] = stdout.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}
