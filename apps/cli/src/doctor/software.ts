/** Programs of other projects, and the user that perchd runs as. */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { findUser } from '@perch/node-kit';
import { type Finding, ok, problem } from './finding.ts';

const leastQemu = 10;
const packages: Record<string, string> = {
  'qemu-img': 'qemu-utils',
  ip: 'iproute2',
  nft: 'nftables',
  setpriv: 'util-linux',
};

export async function programs(): Promise<Finding[]> {
  const missing = Object.keys(packages).filter((name) => !find(name));
  const tools =
    missing.length === 0
      ? ok('programs', Object.keys(packages).join(', '))
      : problem(
          'programs',
          `${missing.join(', ')} missing`,
          `\`npm run setup\`, or: apt-get install ${missing.map((name) => packages[name]).join(' ')}`,
        );
  return [await qemu(), tools];
}

async function qemu(): Promise<Finding> {
  const program = find('qemu-system-x86_64');
  const remedy = '`npm run setup` installs it, on Debian 12 from bookworm-backports.';
  if (!program) return problem('QEMU', 'qemu-system-x86_64 is missing', remedy);
  const { stdout } = await promisify(execFile)(program, ['--version']);
  const version = /\d+(\.\d+)+/.exec(stdout)?.[0] ?? 'unknown';
  if (Number.parseInt(version, 10) >= leastQemu) return ok('QEMU', `${version} at ${program}`);
  return problem('QEMU', `${version} is too old; ${leastQemu}.0 or newer is needed`, remedy);
}

export async function perchUser(): Promise<Finding> {
  const name = process.env.PERCH_USER || 'perch';
  if (await findUser(name)) return ok('user', `${name}, whom perchd runs as`);
  return problem(
    'user',
    `there is no user ${name} for perchd to run as`,
    `useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ${name}`,
  );
}

/** Debian's sbin folders are not on everybody's PATH. */
function find(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
