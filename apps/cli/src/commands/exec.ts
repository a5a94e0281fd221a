import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { type ExecOptions, runCommand } from '../exec/index.ts';
import { keyValue, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';

export function addExec(program: Command, output: Output): void {
  program
    .command('exec')
    .description('run a command in a sandbox')
    .usage('[options] ID -- COMMAND [ARG...]')
    .argument('<id>', 'sandbox')
    .argument('<command...>', 'program and its arguments; write -- before it')
    .passThroughOptions()
    .option('-e, --env <key=value>', 'an environment variable; may be given several times', keyValue)
    .option('-w, --cwd <path>', "working directory (default: the user's home)")
    .option('-u, --user <name>', 'user (default: user)')
    .option('-t, --timeout <seconds>', 'kill it after this time (default: never)', wholeNumber('seconds'))
    .option('-n, --no-stdin', 'leave standard input alone, as in a loop over `read`')
    .option('-d, --detach', 'print its pid and let it run on')
    .addHelpText(
      'after',
      `
Standard input, output and error are those of the command. Ctrl-C and SIGTERM, SIGHUP, SIGQUIT go to it; the third
Ctrl-C kills it. No shell is involved: write one for pipes and variables.

Exit code: the command's own; 128 + n when signal n ended it, 127 when there is no such command, 124 when its time
was over, 125 when Perch could not run it.

Examples:
  perch exec ID -- python3 -c 'print(6 * 7)'
  perch exec ID -- sh -c 'ls | wc -l'
  tar c src | perch exec ID -- tar x
  perch exec -u root -e DEBIAN_FRONTEND=noninteractive ID -- apt-get install -y jq

With --json, one event a line: {"type":"stdout","data"} (data_base64 for bytes that are no UTF-8), "stderr", and
{"type":"exit","exit_code"} at last.`,
    )
    .action(async (id: string, words: string[], options: ExecOptions, self: Command) => {
      const [cmd, ...args] = words[0] === '--' ? words.slice(1) : words;
      if (!cmd) self.error("error: missing required argument 'command'");
      process.exitCode = await runCommand(new Perch(), id, { cmd, args }, options, output);
      // Standard input may stay open for ever; nobody waits for it any more.
      process.stdin.destroy();
    });
}
