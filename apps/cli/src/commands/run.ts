import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { runOnce } from '../exec/index.ts';
import { defined, keyValue, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';

interface Options {
  template?: string;
  vcpus?: number;
  memory?: number;
  disk?: number;
  env?: Record<string, string>;
  cwd?: string;
  user?: string;
  timeout?: number;
  stdin: boolean;
}

export function addRun(program: Command, output: Output): void {
  program
    .command('run')
    .description('run a command in a sandbox of its own, which ends with it')
    .usage('[options] -- COMMAND [ARG...]')
    .argument('<command...>', 'program and its arguments; write -- before it')
    .passThroughOptions()
    .option('-t, --template <name>', 'what to start from (default: base)')
    .option('-c, --vcpus <n>', 'virtual CPUs (default: 1)', wholeNumber('CPUs'))
    .option('-m, --memory <mib>', 'memory (default: 512)', wholeNumber('MiB'))
    .option('-d, --disk <mib>', 'disk (default: 5120)', wholeNumber('MiB'))
    .option('-e, --env <key=value>', 'an environment variable; may be given several times', keyValue)
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
      const { template, vcpus, memory: memory_mb, disk: disk_mb, ...rest } = options;
      const wished = defined({ template, vcpus, memory_mb, disk_mb });
      try {
        process.exitCode = await runOnce(new Perch(), wished, { cmd, args }, rest, output);
      } finally {
        // Standard input may stay open for ever; nobody waits for it any more.
        process.stdin.destroy();
      }
    });
}
