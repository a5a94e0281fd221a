import { asE2bKey } from '@perch/protocol';
import { resolveConfig } from '@perch/sdk';
import { type Command, Option } from 'commander';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';

const shells = ['sh', 'fish'] as const;
type Shell = (typeof shells)[number];

export function addE2b(program: Command, output: Output): void {
  const e2b = program.command('e2b').description("run programs that are written with E2B's SDKs");
  e2b
    .command('env')
    .description("print the variables by which E2B's SDKs find this Perch, for a shell to take over")
    .addOption(new Option('--shell <shell>', 'of this kind').choices(shells).default('sh'))
    .addHelpText(
      'after',
      `
Examples:
  eval "$(perch e2b env)" && node agent.js       in sh, bash and zsh
  perch e2b env --shell fish | source            in fish
  perch e2b env --json                           for programs

The key is among them: it is that of PERCH_API_KEY or of the config file, in the form that E2B's clients look for.`,
    )
    .action(async ({ shell }: { shell: Shell }) => {
      const { url, apiKey } = await resolveConfig();
      if (!apiKey) {
        throw new CliError(
          'No API key is known here.',
          'Set PERCH_API_KEY, or start Perch: `perch up` writes one.',
        );
      }
      const variables = { E2B_API_URL: url, E2B_SANDBOX_URL: url, E2B_API_KEY: asE2bKey(apiKey) };
      for (const [name, value] of Object.entries(variables)) {
        output.line(
          shell === 'fish' ? `set -gx ${name} '${quoted(value)}';` : `export ${name}='${quoted(value)}'`,
        );
      }
      output.value(variables);
    });
}

/** Between single quotes a shell takes all as it is, but for the quote; a URL can have one. */
function quoted(value: string): string {
  return value.replaceAll("'", '%27');
}
