import { Perch, type PinReady } from '@perch/sdk';
import { type Command, InvalidArgumentError } from 'commander';
import { defined, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { readyTable } from '../ready-table.ts';

interface Options {
  count: number | 'auto';
  vcpus?: number;
  memory?: number;
  disk?: number;
}

export function addTemplate(program: Command, output: Output): void {
  const template = program
    .command('template')
    .description('what sandboxes are created from: how many guests stand ready for it');
  template
    .command('ready')
    .description('set how many guests stand ready for creates of an image or a snapshot')
    .argument('<name>', 'image or snapshot')
    .requiredOption('-n, --count <n>', 'so many, for good; `auto`: as many as the last minutes want', countOf)
    .option('-c, --vcpus <n>', 'virtual CPUs (default: 1, or those of the snapshot)', wholeNumber('CPUs'))
    .option('-m, --memory <mib>', 'memory (default: 512, or that of the snapshot)', wholeNumber('MiB'))
    .option('-d, --disk <mib>', 'disk (default: 5120, or that of the snapshot)', wholeNumber('MiB'))
    .addHelpText(
      'after',
      `
A create of that template and shape takes over one that stands ready, and another comes in its place. They come in the
background, and only of memory that nobody needs. The number stays over restarts; that of a snapshot goes with it.

Examples:
  perch template ready base --count 10
  perch template ready base --memory 1024 --count auto
  perch ls --ready`,
    )
    .action(async (name: string, { count, vcpus, memory, disk }: Options) => {
      const request: PinReady = {
        count: count === 'auto' ? null : count,
        ...defined({ vcpus, memory_mb: memory, disk_mb: disk }),
      };
      const guests = await new Perch().templates.pinReady(name, request);
      output.value(guests);
      output.line(readyTable([guests]));
    });
}

function countOf(text: string): number | 'auto' {
  if (text === 'auto') return text;
  if (!/^\d{1,4}$/.test(text))
    throw new InvalidArgumentError('It must be a whole number of guests, or auto.');
  return Number(text);
}
