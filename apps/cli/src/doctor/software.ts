/** Programs of other projects, and the user that perchd runs as. */
import { findFirecracker, findQemu, findTool, findUser, lineThatAdds, qemuProgram } from '@perch/node-kit';
import { type Finding, ok, problem, warning } from './finding.ts';

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
  return [...(await monitors()), tools];
}

/** The one that PERCH_VMM names. Else those that a host may choose from: Firecracker where there is a part of it. */
export async function monitors(env: NodeJS.ProcessEnv = process.env): Promise<Finding[]> {
  if (env.PERCH_VMM === 'firecracker') return [await firecracker(env)];
  const found = env.PERCH_VMM ? undefined : await findFirecracker(env);
  if (!found || found.programs.firecracker === '') return [await qemu()];
  const { version, problem: what } = found;
  const name = 'Firecracker';
  return [
    await qemu(),
    what
      ? warning(name, `${what.what}, so that it is not taken`, what.remedy)
      : ok(name, `${version} at ${found.programs.firecracker}, taken where a guest starts with it`),
  ];
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
