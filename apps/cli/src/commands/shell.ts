import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { runShell, type ShellOptions } from '../exec/index.ts';
import type { Output } from '../output.ts';

export function addShell(program: Command, output: Output): void {
  program
    .command('shell')
    .description('open a shell in a sandbox, in this terminal')
    .argument('<id>', 'sandbox')
    .option('-w, --cwd <path>', "working directory (default: the user's home)")
    .option('-u, --user <name>', 'user (default: user)')
    .addHelpText(
      'after',
      `
All keys go to the shell, Ctrl-C and Ctrl-D too; \`exit\` leaves it. It is the login shell of the user, and ends with
the connection.

Exit code: the shell's own; 125 when Perch could not open or follow it.

Example:
  perch shell -u root ID`,
    )
    .action(async (id: string, options: ShellOptions) => {
      process.exitCode = await runShell(new Perch(), id, options, output);
    });
}
