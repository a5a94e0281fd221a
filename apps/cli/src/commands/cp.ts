import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { copy, parsePlace } from '../copy/index.ts';
import type { Output } from '../output.ts';

export function addCp(program: Command, output: Output): void {
  program
    .command('cp')
    .description('copy a file into a sandbox or out of it')
    .usage('[options] FILE ID:PATH | ID:PATH FILE')
    .argument('<source>', 'a file, - for standard input, or ID:PATH')
    .argument('<destination>', 'a file or directory, - for standard output, or ID:PATH')
    .option('-q, --quiet', 'no progress bar')
    .addHelpText(
      'after',
      `
A path in a sandbox is absolute, or relative to the user's home; one that ends in a slash keeps the name of the file.
The file appears whole or not at all.

Examples:
  perch cp data.csv ID:                      to /home/user/data.csv
  perch cp data.csv ID:/tmp/input.csv
  perch cp ID:results/plot.png .
  perch cp ID:/var/log/dpkg.log - | tail
For a directory: tar c DIR | perch exec ID -- tar x`,
    )
    .action(async (source: string, destination: string, { quiet }: { quiet?: true }) => {
      const began = performance.now();
      const showProgress = !quiet && !output.json && process.stderr.isTTY;
      const result = await copy(new Perch(), parsePlace(source), parsePlace(destination), showProgress);
      output.value({
        source,
        destination: result.destination,
        bytes: result.bytes,
        ms: Math.round(performance.now() - began),
      });
    });
}
