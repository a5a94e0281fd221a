import { asE2bKey, readSettings } from '@perch/protocol';
import { resolveConfig } from '@perch/sdk';
import { type Command, Option } from 'commander';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';
import { readCertificate, tlsFiles } from '../tls/index.ts';

const shells = ['sh', 'fish'] as const;
type Shell = (typeof shells)[number];

export function addE2b(program: Command, output: Output): void {
  const e2b = program.command('e2b').description("run programs that are written with E2B's SDKs");
  e2b
    .command('env')
    .description("print the variables by which E2B's SDKs find this Perch, for a shell to take over")
    .addOption(new Option('--shell <shell>', 'of this kind').choices(shells).default('sh'))
    .option('--tls', 'for https and HTTP/2, by the domain of the certificate of this machine', false)
    .addHelpText(
      'after',
      `
Examples:
  eval "$(perch e2b env)" && node agent.js       in sh, bash and zsh
  perch e2b env --shell fish | source            in fish
  perch e2b env --json                           for programs
  eval "$(perch e2b env --tls)"                  by https and names of its own, after: sudo perch tls init

The key is among them: it is that of PERCH_API_KEY or of the config file, in the form that E2B's clients look for.`,
    )
    .action(async ({ shell, tls }: { shell: Shell; tls: boolean }) => {
      const { url, apiKey } = await resolveConfig();
      if (!apiKey) {
        throw new CliError(
          'No API key is known here.',
          'Set PERCH_API_KEY, or start Perch: `perch up` writes one.',
        );
      }
      const variables = {
        ...(tls ? await byTls(url) : { E2B_API_URL: url, E2B_SANDBOX_URL: url }),
        E2B_API_KEY: asE2bKey(apiKey),
      };
      // They would go before the domain.
      if (tls) for (const name of plain) output.line(shell === 'fish' ? `set -e ${name};` : `unset ${name}`);
      for (const [name, value] of Object.entries(variables)) {
        output.line(
          shell === 'fish' ? `set -gx ${name} '${quoted(value)}';` : `export ${name}='${quoted(value)}'`,
        );
      }
      output.value(variables);
    });
}

const plain = ['E2B_API_URL', 'E2B_SANDBOX_URL'];

/** @throws CliError when this machine has no certificate */
async function byTls(url: string): Promise<Record<string, string>> {
  const files = tlsFiles(readSettings(await localEnvironment()).dataDir);
  const certificate = await readCertificate(files);
  if (!certificate) {
    throw new CliError(`There is no certificate in ${files.dir}.`, 'Make one: sudo perch tls init');
  }
  const { port } = new URL(url);
  return {
    E2B_DOMAIN: certificate.domain + (port && `:${port}`),
    // The first is added to what Node trusts, the second takes the place of what OpenSSL trusts.
    ...(certificate.isOurs ? { NODE_EXTRA_CA_CERTS: files.authority, SSL_CERT_FILE: files.bundle } : {}),
  };
}

/** Between single quotes a shell takes all as it is, but for the quote; a URL can have one. */
function quoted(value: string): string {
  return value.replaceAll("'", '%27');
}
