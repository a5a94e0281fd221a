import { printable } from '@perch/node-kit';
import type { Command as Started } from '@perch/sdk';
import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { type Output, table } from '../output.ts';
import { duration } from './ls.ts';

export function addPs(program: Command, output: Output): void {
  program
    .command('ps')
    .description('list the commands of a sandbox, the newest first')
    .argument('<id>', 'sandbox')
    .option('-a, --all', 'those that have ended, too')
    .addHelpText(
      'after',
      `
A command that has ended is known for an hour, or for a minute when somebody followed it to its end.

With --json, one command a line:
  perch ps --json -a ID | jq -r 'select(.exit_code != 0) | .pid'`,
    )
    .action(async (id: string, { all }: { all?: true }) => {
      const commands: Started[] = [];
      const status = all ? undefined : 'running';
      for await (const command of new Perch().sandboxes.commands.all(id, { status })) {
        output.value(command);
        commands.push(command);
      }
      if (commands.length > 0) output.line(table(['PID', 'STATUS', 'AGE', 'COMMAND'], commands.map(row)));
      else
        output.line(all ? 'No command is known.' : 'No command runs. `perch ps -a` lists ended ones, too.');
    });
}

function row({ pid, status, exit_code, started_at, cmd, args }: Started): string[] {
  return [
    String(pid),
    exit_code === null ? status : `${status} (${exit_code})`,
    duration(Date.now() - Date.parse(started_at)),
    printable([cmd, ...args].join(' ')).slice(0, 100),
  ];
}
