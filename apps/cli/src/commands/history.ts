import { printable } from '@perch/node-kit';
import { type Checkpoint, Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { type Output, table } from '../output.ts';
import { mebibytes } from '../size.ts';
import { duration } from './ls.ts';

export function addHistory(program: Command, output: Output): void {
  program
    .command('history')
    .description('list the states of a sandbox that are kept, the oldest first')
    .argument('<id>', 'sandbox')
    .addHelpText(
      'after',
      `
Each pause and each snapshot is a checkpoint; 0 is what the sandbox was created from. The oldest go. OWN is what goes
when a checkpoint goes, SHARED what others need too, be they checkpoints of the same sandbox. The last line has what
goes when the sandbox goes.

Examples:
  perch history sbo2k3v9x1q7m4t8w5z0
  perch resume sbo2k3v9x1q7m4t8w5z0 --checkpoint 2
  perch fork sbo2k3v9x1q7m4t8w5z0 --checkpoint 2`,
    )
    .action(async (id: string) => {
      const history = await new Perch().sandboxes.history(id);
      output.value(history);
      if (history.items.length === 0) output.line('Nothing is kept of it.');
      else {
        output.line(table(['CHECKPOINT', 'FROM', 'KIND', 'AGE', 'OWN', 'SHARED'], history.items.map(row)));
        const [own, shared] = [history.own_bytes, history.shared_bytes].map(mebibytes);
        output.line(`The sandbox occupies ${own} of its own, and shares ${shared} with others.`);
      }
    });
}

function row({
  checkpoint,
  parent,
  kind,
  memory,
  created_at,
  own_bytes,
  shared_bytes,
}: Checkpoint): string[] {
  return [
    String(checkpoint),
    parent === null ? '-' : String(parent),
    printable(memory ? kind : `${kind}, disk only`),
    duration(Date.now() - Date.parse(created_at)),
    mebibytes(own_bytes),
    mebibytes(shared_bytes),
  ];
}
