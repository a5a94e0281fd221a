/** Programs of other projects, and the user that perchd runs as. */
import { findFirecracker, findQemu, findTool, findUser, lineThatAdds, qemuProgram } from '@perch/node-kit';
import { type Finding, ok, problem } from './finding.ts';

const packages: Record<string, string> = {
  'qemu-img': 'qemu-utils',
  ip: 'iproute2',
  nft: 'nftables',
  setpriv: 'util-linux',
};

export async function programs(): Promise<Finding[]> {
  const missing = Object.keys(packages).filter((name) => !findTool(name));
  const tools =
    missing.length === 0
      ? ok('programs', Object.keys(packages).join(', '))
      : problem(
          'programs',
          `${missing.join(', ')} missing`,
          `\`npm run setup\`, or: apt-get install ${missing.map((name) => packages[name]).join(' ')}`,
        );
  return [await monitor(), tools];
}

/** The one that sandboxes get, by the value of PERCH_VMM. */
export async function monitor(env: NodeJS.ProcessEnv = process.env): Promise<Finding> {
  return env.PERCH_VMM === 'firecracker' ? await firecracker(env) : await qemu();
}

async function firecracker(env: NodeJS.ProcessEnv): Promise<Finding> {
  const { version, programs: found, problem: what } = await findFirecracker(env);
  if (what) return problem('Firecracker', what.what, what.remedy);
  return ok('Firecracker', `${version} at ${found.firecracker}, its jailer at ${found.jailer}`);
}

async function qemu(): Promise<Finding> {
  const { version, problem: found } = await findQemu();
  if (!found) return ok('QEMU', `${version} at ${findTool(qemuProgram)}`);
  return problem('QEMU', found.what, `\`npm run setup\`, or: ${found.remedy}`);
}

export async function perchUser(): Promise<Finding> {
  const name = process.env.PERCH_USER || 'perch';
  if (await findUser(name)) return ok('user', `${name}, whom perchd runs as`);
  return problem('user', `there is no user ${name} for perchd to run as`, lineThatAdds(name));
}
