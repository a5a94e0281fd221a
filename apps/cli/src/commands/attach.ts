import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { attach } from '../exec/index.ts';
import { pidNumber } from '../options.ts';
import type { Output } from '../output.ts';

export function addAttach(program: Command, output: Output): void {
  program
    .command('attach')
    .description('follow a command that runs in a sandbox, or has ended')
    .argument('<id>', 'sandbox')
    .argument('<pid>', 'of the command; `perch ps` lists them', pidNumber)
    .option('-i, --stdin', 'send standard input to it, if it was started with it')
    .addHelpText(
      'after',
      `
The last output that is kept of it comes first, at most 64 KiB a stream, then what it puts out; standard error tells
when there was more. Ctrl-C leaves it, and it runs on.

Exit code: the command's own, as of perch exec; 125 when Perch could not follow it.

Example:
  pid=$(perch exec -d ID -- make)
  perch attach ID $pid`,
    )
    .action(async (id: string, pid: number, options: { stdin?: true }) => {
      process.exitCode = await attach(new Perch(), id, pid, options, output);
      // Standard input may stay open for ever; nobody waits for it any more.
      process.stdin.destroy();
    });
}
