import { run } from './run.ts';

/** Ids of a user of this machine, as its name service knows it. @throws Error with the line that makes one */
export async function lookUpUser(name: string): Promise<{ uid: number; gid: number }> {
  const { stdout } = await run('getent', ['passwd', name]).catch((cause: unknown) => {
    throw new Error(`There is no user ${name}. Make it: useradd --system --shell /usr/sbin/nologin ${name}`, {
      cause,
    });
  });
  const [, , uid, gid] = stdout.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}
