import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { forEach } from '../for-each.ts';
import type { Output } from '../output.ts';
import { printTransition } from '../timings.ts';

export function addPause(program: Command, output: Output): void {
  program
    .command('pause')
    .description('put sandboxes aside: memory and disk go to files, and they hold nothing else')
    .argument('<id...>', 'sandboxes')
    .option('--no-memory', 'keep the disk alone: a resume boots the guest from it')
    .addHelpText(
      'after',
      `
Processes, open files and servers inside go on when it is resumed. Open connections to it end, and with them the
commands of \`perch exec\`, unless they were started with --detach. No time runs while it is paused.

With --no-memory processes are gone, and only what is on the disk is kept: it is written out first. That takes less room,
and such a sandbox can be resumed on any processor. Host name, environment and time-outs stay.

On a terminal it also says how long each stage took; with --json that is in timings_ms.

Examples:
  perch pause sbo2k3v9x1q7m4t8w5z0
  perch ls --json --status running | jq -r .id | xargs -r perch pause`,
    )
    .action(async (ids: string[], { memory }: { memory: boolean }) => {
      const { sandboxes } = new Perch();
      const how = memory ? {} : { memory };
      await forEach(ids, output, async (id) => printTransition(await sandboxes.pause(id, how), output));
    });
}
