import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { CliError } from '../errors.ts';

export interface User {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** @throws CliError when the machine has no such user */
export async function lookUpUser(name: string): Promise<User> {
  try {
    const { stdout } = await promisify(execFile)('getent', ['passwd', name]);
    const [, , uid, gid, , home] = stdout.trim().split(':');
    return { name, uid: Number(uid), gid: Number(gid), home: home ?? '/' };
  } catch (cause) {
    throw new CliError(
      `There is no user ${name}.`,
      `Make it: useradd --system --shell /usr/sbin/nologin ${name}`,
      { cause },
    );
  }
}

/** Who typed the command: the user behind sudo, else the one we are. */
export function invokingUser(env: NodeJS.ProcessEnv = process.env): Promise<User> {
  return lookUpUser(env.SUDO_USER || 'root');
}
