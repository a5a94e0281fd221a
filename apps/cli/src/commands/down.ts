import { createInterface } from 'node:readline/promises';
import { readSettings } from '@perch/protocol';
import type { Command } from 'commander';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

export function addDown(program: Command, output: Output): void {
  program
    .command('down')
    .description('destroy all sandboxes and stop Perch')
    .option('--keep', 'leave the sandboxes running; the next `perch up` finds them again', false)
    .option('-y, --yes', 'do not ask', false)
    .action(async ({ keep, yes }: { keep: boolean; yes: boolean }) => {
      const { down, leaks } = await import('../launcher/index.ts');
      const report = (line: string) => {
        output.line(line);
        output.value({ event: 'progress', message: line });
      };
      const env = await localEnvironment();
      const settings = readSettings(env);
      await down(settings, {
        ...{ keep, env },
        report,
        confirm: async (sandboxes) => {
          output.line('These sandboxes are destroyed with all that is in them:');
          for (const { id, status, template } of sandboxes) output.line(`  ${id}  ${status}  ${template}`);
          return yes || output.json || !process.stdin.isTTY || ask('Go on? [y/N] ');
        },
      });
      if (keep) return;
      const left = await leaks(settings);
      output.value({ event: 'leaks', leaks: left });
      for (const { kind, name } of left) output.line(`left over: ${kind} ${name}`);
      if (left.length > 0) throw new CliError('Not everything is gone.', 'Run `perch down` again.');
    });
}

async function ask(question: string): Promise<boolean> {
  using terminal = createInterface({ input: process.stdin, output: process.stdout });
  return /^y(es)?$/i.test(await terminal.question(question));
}
