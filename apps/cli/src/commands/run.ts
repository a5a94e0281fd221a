import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { runOnce } from '../exec/index.ts';
import { wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { addShape, type Shape, shapeOf } from '../shape.ts';

interface Options extends Shape {
  env?: Record<string, string>;
  cwd?: string;
  user?: string;
  timeout?: number;
  stdin: boolean;
}

export function addRun(program: Command, output: Output): void {
  const command = program
    .command('run')
    .description('run a command in a sandbox of its own, which ends with it')
    .usage('[options] -- COMMAND [ARG...]')
    .argument('<command...>', 'program and its arguments; write -- before it')
    .passThroughOptions();
  addShape(command)
    .option('-w, --cwd <path>', "working directory (default: the user's home)")
    .option('-u, --user <name>', 'user (default: user)')
    .option(
      '--timeout <seconds>',
      'kill the command after this time (default: never)',
      wholeNumber('seconds'),
    )
    .option('-n, --no-stdin', 'leave standard input alone, as in a loop over `read`')
    .addHelpText(
      'after',
      `
The sandbox is destroyed when the command has ended, also by Ctrl-C or a signal. Should this process be killed, it
goes after 300 s without activity.

Standard input, output and error are those of the command. In a terminal the command has one, too; without, or with
--json or -n, it has none, and signals go to it as with perch exec. No shell is involved.

Exit code: as of perch exec; 128 + n when signal n ended this instead of the command.

Examples:
  perch run -- python3 -c 'print(6 * 7)'
  perch run -- bash
  tar c src | perch run --memory 1024 -- sh -c 'tar x && make -C src test'
  perch run --template with-tools --json -- ./check

With --json, one event a line, as with perch exec.`,
    )
    .action(async (words: string[], options: Options, self: Command) => {
      const [cmd, ...args] = words[0] === '--' ? words.slice(1) : words;
      if (!cmd) self.error("error: missing required argument 'command'");
      try {
        process.exitCode = await runOnce(new Perch(), shapeOf(options), { cmd, args }, options, output);
      } finally {
        // Standard input may stay open for ever; nobody waits for it any more.
        process.stdin.destroy();
      }
    });
}
