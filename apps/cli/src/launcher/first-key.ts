/** The first API key: the control plane makes it, the user's config keeps it. */
import { chmod, chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { dataPaths, type Settings } from '@perch/protocol';
import { invokingUser } from './user.ts';

/**
 * Moves a key that the control plane has just made into the config of who typed the command.
 * @returns the key and the file, when there is a new key
 */
export async function takeFirstKey(settings: Settings): Promise<{ key: string; file: string } | undefined> {
  const made = join(dataPaths(settings.dataDir).control, 'first-key');
  const key = await readFile(made, 'utf8').catch(() => undefined);
  if (key === undefined) return undefined;
  const user = await invokingUser();
  const file = process.env.PERCH_CONFIG || join(user.home, '.config/perch/config.json');
  for (const folder of [dirname(dirname(file)), dirname(file)]) {
    if (await mkdir(folder, { recursive: true, mode: 0o700 })) await chown(folder, user.uid, user.gid);
  }
  const temporary = `${file}.tmp-${process.pid}`;
  await writeFile(
    temporary,
    `${JSON.stringify({ url: `http://${settings.listen}`, api_key: key.trim() }, null, 2)}\n`,
    {
      mode: 0o600,
      flag: 'wx',
    },
  );
  await chmod(temporary, 0o600);
  await chown(temporary, user.uid, user.gid);
  await rename(temporary, file);
  await rm(made);
  return { key: key.trim(), file };
}
