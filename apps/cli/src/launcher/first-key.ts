/** The first API key: the control plane makes it, the user's config keeps it. */
import { chown, mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeDurably } from '@perch/node-kit';
import { dataPaths, type Settings } from '@perch/protocol';
import { configFile } from '@perch/sdk';
import { lookUpUser } from './user.ts';

/**
 * Moves a key that the control plane has just made to where the command line of who typed the command looks first.
 * @returns the key and the file, when there is a new key
 */
export async function takeFirstKey(settings: Settings): Promise<{ key: string; file: string } | undefined> {
  const made = join(dataPaths(settings.dataDir).control, 'first-key');
  const key = await readFile(made, 'utf8').catch(() => undefined);
  if (key === undefined) return undefined;
  const file = await configFile();
  // Under sudo both are those of who typed it.
  const user = await lookUpUser(process.env.SUDO_USER || 'root');
  for (const folder of [dirname(dirname(file)), dirname(file)]) {
    if (await mkdir(folder, { recursive: true, mode: 0o700 })) await chown(folder, user.uid, user.gid);
  }
  const config = { url: `http://${settings.listen}`, api_key: key.trim() };
  await writeDurably(file, `${JSON.stringify(config, null, 2)}\n`, {
    prepare: (written) => written.chown(user.uid, user.gid),
  });
  await rm(made);
  return { key: key.trim(), file };
}
