import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { pidNumber } from '../options.ts';
import type { Output } from '../output.ts';

export function addKill(program: Command, output: Output): void {
  program
    .command('kill')
    .description('kill a command in a sandbox, and what it started')
    .argument('<id>', 'sandbox')
    .argument('<pid>', 'of the command; `perch ps` lists them', pidNumber)
    .action(async (id: string, pid: number) => {
      await new Perch().sandboxes.commands.kill(id, pid);
      output.value({ pid });
    });
}
