import { printable } from '@perch/node-kit';
import { readSettings } from '@perch/protocol';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { Finding } from '../doctor/index.ts';
import { exitCodes, type Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

const signs: Record<Finding['status'], string> = {
  ok: pc.green('✓'),
  warning: pc.yellow('!'),
  problem: pc.red('✗'),
};

export function addDoctor(program: Command, output: Output): void {
  program
    .command('doctor')
    .description('check this machine and explain what is missing')
    .addHelpText(
      'after',
      `
✓ is well, ! makes Perch slower or weaker, ✗ keeps it from running; each comes with what to do about it. The exit code
is 1 when there is a ✗. With --json, one finding a line.`,
    )
    .action(async () => {
      const { findings } = await import('../doctor/index.ts');
      for (const finding of await findings(readSettings(await localEnvironment()))) {
        output.value(finding);
        output.line(`${signs[finding.status]} ${finding.name}: ${printable(finding.detail)}`);
        if (finding.remedy) output.line(`    ${finding.remedy}`);
        if (finding.status === 'problem') process.exitCode = exitCodes.failed;
      }
    });
}
