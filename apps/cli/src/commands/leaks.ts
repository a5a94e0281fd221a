import { printable } from '@perch/node-kit';
import { readSettings } from '@perch/protocol';
import type { Command } from 'commander';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

export function addLeaks(program: Command, output: Output): void {
  program
    .command('leaks')
    .description('list what this Perch has on the machine: processes, namespaces, links, files')
    .addHelpText(
      'after',
      `
Looks for itself, also when Perch is not running. After \`perch down\` there is nothing, and the exit code is 0;
while something is there it is 1.`,
    )
    .action(async () => {
      const { leaks } = await import('../launcher/index.ts');
      const found = await leaks(readSettings(await localEnvironment()));
      for (const leak of found) {
        output.value(leak);
        output.line(`${leak.kind.padEnd(10)}  ${printable(leak.name)}`);
      }
      if (found.length === 0) output.line('Nothing is left.');
      else throw new CliError(`${found.length} things are there.`, 'Run `perch down` to remove them.');
    });
}
