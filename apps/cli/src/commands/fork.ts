import { printable } from '@perch/node-kit';
import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { defined, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { stagesLine } from '../timings.ts';

interface Options {
  count?: number;
  checkpoint?: number;
}

export function addFork(program: Command, output: Output): void {
  program
    .command('fork')
    .description('make others that go on from where a sandbox is, and print their ids')
    .argument('<id>', 'a running or paused sandbox')
    .option('-n, --count <n>', 'how many (default: 1)', wholeNumber('sandboxes'))
    .option(
      '-c, --checkpoint <n>',
      'go on from an earlier state: see perch history',
      wholeNumber('checkpoint'),
    )
    .addHelpText(
      'after',
      `
Children have its memory, processes and disk, copied on write, and an identity of their own: id, host name, random
numbers, clock. A running source stands still for a moment, once, whatever the count. With --json, one child a line.

Examples:
  perch fork sbo2k3v9x1q7m4t8w5z0
  for id in $(perch fork sbo2k3v9x1q7m4t8w5z0 --count 10); do perch exec "$id" -- ./try-something; done`,
    )
    .action(async (id: string, options: Options) => {
      const { results, timings_ms } = await new Perch().sandboxes.fork(id, defined(options));
      for (const result of results) {
        output.value('sandbox' in result ? result.sandbox : result);
        if ('sandbox' in result) {
          output.line(result.sandbox.id);
        } else {
          process.exitCode = 1;
          if (!output.json) {
            const { message, remedy } = result.error;
            process.stderr.write(`${pc.red('✗')} ${printable(message)}\n  ${printable(remedy)}\n`);
          }
        }
      }
      if (output.json || !process.stdout.isTTY) return;
      process.stderr.write(pc.dim(`${stagesLine('forked', timings_ms)}\n`));
    });
}
