import { printable } from '@perch/node-kit';
import { readSettings } from '@perch/protocol';
import type { Command } from 'commander';
import pc from 'picocolors';
import { CliError } from '../errors.ts';
import { exitCodes, type Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

export function addFsck(program: Command, output: Output): void {
  program
    .command('fsck')
    .description('read all that this host keeps, and say what is damaged, missing or nobody owns')
    .option('--repair', 'end and remove what nobody owns, and damaged states that nothing goes on from')
    .addHelpText(
      'after',
      `
For root, while Perch runs: it disturbs nothing, but for the disk. Reads every byte of every state, snapshot and boot
snapshot once, and looks for processes, VM directories, cgroups, slots and tables that no sandbox has. The exit code is
1 while something is wrong. With --json, one finding a line.

Examples:
  sudo perch fsck
  sudo perch fsck --json | jq -r .what
  sudo perch fsck --repair`,
    )
    .action(async ({ repair }: { repair?: true }) => {
      const { hostSocket } = await import('../launcher/index.ts');
      const host = hostSocket(readSettings(await localEnvironment()).dataDir);
      if (!(await host.answers())) {
        throw new CliError(
          'The host agent of this data directory does not answer.',
          'Start it: sudo perch up',
        );
      }
      const findings = await host.fsck(repair === true);
      for (const finding of findings) {
        output.value(finding);
        const sign = finding.repaired ? pc.green('✓ removed') : pc.red('✗');
        output.line(`${sign} ${printable(finding.what)}: ${printable(finding.problem)}`);
        if (!finding.repaired) output.line(`    ${printable(finding.remedy)}`);
      }
      if (findings.length === 0) output.line('All is as it was written.');
      if (findings.some(({ repaired }) => !repaired)) process.exitCode = exitCodes.failed;
    });
}
