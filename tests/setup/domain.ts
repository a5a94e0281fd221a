/** Programs that find Perch by a domain alone: its certificate, its names, and the variables that tell of it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { domainDns } from './domain-dns.ts';
import { cli } from './perch-instance.ts';
import { shared } from './shared.ts';

const run = promisify(execFile);

export interface Domain extends AsyncDisposable {
  /** By `perch e2b env --tls`. */
  variables: Record<'E2B_DOMAIN' | 'E2B_API_KEY' | 'NODE_EXTRA_CA_CERTS' | 'SSL_CERT_FILE', string>;
  /** Runs a program that asks Perch for names. @returns what it prints */
  run(file: string, args: readonly string[], env?: Record<string, string>): Promise<string>;
}

/** The shared Perch gets a certificate. */
export async function startDomain(): Promise<Domain> {
  const perch = async (...args: string[]) =>
    (await run(process.execPath, [cli, ...args], { env: shared.env })).stdout;
  await perch('tls', 'init', '--json');
  const variables = JSON.parse(
    (
      await run(process.execPath, [cli, 'e2b', 'env', '--tls', '--json'], {
        env: { ...shared.env, PERCH_URL: shared.url },
      })
    ).stdout,
  );
  const folder = await mkdtemp(join(tmpdir(), 'perch-domain-'));
  const resolv = join(folder, 'resolv.conf');
  await writeFile(resolv, `nameserver ${domainDns.address}\n`);
  return {
    variables,
    async run(file, args, env = {}) {
      // In a mount namespace of its own: the tests ask another resolver.
      const inside = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
      const command = ['--mount', 'sh', '-c', inside, resolv, file, ...args];
      const inherited = { PATH: process.env.PATH, HOME: process.env.HOME };
      try {
        return (await run('unshare', command, { env: { ...inherited, ...variables, ...env } })).stdout;
      } catch (cause) {
        const { code, signal, stdout, stderr } = cause as Record<string, unknown>;
        throw new Error(`It ended with ${signal ?? code}, having said: ${stdout}${stderr}`, { cause });
      }
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}
