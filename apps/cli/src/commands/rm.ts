import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { type Output, reportError } from '../output.ts';

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
      const destroy = async (id: string) => {
        await sandboxes.delete(id);
        output.value({ id, status: 'destroyed' });
        output.line(id);
      };
      // One that fails keeps none of the others.
      const results = await Promise.allSettled(ids.map(destroy));
      for (const result of results) {
        if (result.status === 'rejected') process.exitCode = reportError(result.reason, output.json);
      }
    });
}
