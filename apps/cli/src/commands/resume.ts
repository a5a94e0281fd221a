import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { forEach } from '../for-each.ts';
import { defined, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { printTransition } from '../timings.ts';

export function addResume(program: Command, output: Output): void {
  program
    .command('resume')
    .description('take paused sandboxes up where they were')
    .argument('<id...>', 'sandboxes')
    .option(
      '-c, --checkpoint <n>',
      'go on from an earlier state: see perch history',
      wholeNumber('checkpoint'),
    )
    .option('--no-memory', 'boot the guest from its disk, whatever was kept of its memory')
    .addHelpText(
      'after',
      `
It has its full time-out again. A sandbox that cannot be resumed stays paused and whole. To have a sandbox resumed by the
first command that needs it, create it with --auto-resume.

With --no-memory, or when it was paused so, its guest boots from its disk: processes are gone. That also helps when the
memory cannot be gone on with, as on a host with another VM monitor. What programs had not written out then is lost.

On a terminal it also says how long each stage took; with --json that is in timings_ms.

Examples:
  perch resume sbo2k3v9x1q7m4t8w5z0
  perch ls --json --status paused | jq -r .id | xargs -r perch resume`,
    )
    .action(async (ids: string[], { checkpoint, memory }: { checkpoint?: number; memory: boolean }) => {
      const { sandboxes } = new Perch();
      const how = { ...defined({ checkpoint }), ...(memory ? {} : { memory }) };
      await forEach(ids, output, async (id) => printTransition(await sandboxes.resume(id, how), output));
    });
}
