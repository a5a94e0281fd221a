import { printable } from '@perch/node-kit';
import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { Output } from '../output.ts';

export function addLogs(program: Command, output: Output): void {
  program
    .command('logs')
    .description("show a sandbox's life events and the last of its console")
    .argument('<id>', 'sandbox; also one that has failed or is destroyed')
    .action(async (id: string) => {
      const logs = await new Perch().sandboxes.logs(id);
      output.value(logs);
      for (const { at, status, detail } of logs.events) {
        output.line(`${pc.dim(at)}  ${status}${detail ? `  ${printable(detail)}` : ''}`);
      }
      if (logs.console) output.line(`${pc.bold('Console:')}\n${consoleText(logs.console).trimEnd()}`);
    });
}

/** The guest wrote it: its line breaks and tabs are kept, nothing else that a terminal obeys. */
function consoleText(text: string): string {
  return text
    .replace(/\r+\n/g, '\n')
    .split('\n')
    .map((line) => line.split('\t').map(printable).join('\t'))
    .join('\n');
}
