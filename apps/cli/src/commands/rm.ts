import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { forEach } from '../for-each.ts';
import type { Output } from '../output.ts';

export function addRm(program: Command, output: Output): void {
  program
    .command('rm')
    .description('destroy sandboxes, with all that is in them')
    .argument('<id...>', 'sandboxes')
    .addHelpText(
      'after',
      `
Examples:
  perch rm sbo2k3v9x1q7m4t8w5z0
  perch ls --json --metadata job=42 | jq -r .id | xargs -r perch rm`,
    )
    .action(async (ids: string[]) => {
      const { sandboxes } = new Perch();
      await forEach(ids, output, async (id) => {
        await sandboxes.delete(id);
        output.value({ id, status: 'destroyed' });
        output.line(id);
      });
    });
}
