/** The command line of `npm run lab`. */
import { parseArgs } from 'node:util';

export const help = `Usage: npm run lab -- [OPTION...] [--] COMMAND [ARG...]

Runs a command in the lab host: a virtual machine with device-mapper, KVM, cgroup v2 and systemd, whatever this
machine has. This checkout is in /perch there, and what \`npm run setup\` built in PERCH_CACHE. Input, output, signals
and exit code are the command's. A command that has not ended 10 s after SIGTERM or SIGHUP ends with its lab. The lab
has no way out, ends with the command, and leaves nothing. Each run has a lab of its own, so several go on side by side.

The first run builds the lab in PERCH_CACHE and boots it; later ones go on from there in about a second.

  --data ext4|xfs   where PERCH_CACHE and TMPDIR of the command lie: an ext4 disk, or XFS with reflinks (default: ext4)
  --repeat N        run the command again, at most so often, when the lab died; said in the last line (default: 0).
                    The command has no input then, since it cannot be given twice.
  --fresh           boot the lab anew first
  --shell           an interactive shell instead of a command
  --down            end all labs of this PERCH_CACHE and remove the state that they go on from
  --help            show this

Exit codes other than the command's: 2 for a wrong option, 69 when the lab could not be made, and 75 when it died,
so that nothing is known of the command. A command that ends with 75 says so itself: a part of the lab has died.`;

export interface LabRun {
  command: readonly string[];
  data: 'ext4' | 'xfs';
  repeat: number;
  fresh: boolean;
  /** The command talks to a terminal. */
  terminal: boolean;
}

export type Options = 'help' | 'down' | LabRun;

const definitions = {
  data: { type: 'string', default: 'ext4' },
  repeat: { type: 'string', default: '0' },
  fresh: { type: 'boolean', default: false },
  shell: { type: 'boolean', default: false },
  down: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** @param terminal size of the one that this process talks to @throws TypeError for what cannot be run */
export function readOptions(
  args: readonly string[],
  terminal: { rows: number; columns: number } | undefined,
): Options {
  const [own, command] = split(args);
  const { values } = parseArgs({ args: own, options: definitions });
  const { data, repeat, fresh, shell, down } = values;
  if (values.help) return 'help';
  if (data !== 'ext4' && data !== 'xfs') throw new TypeError('--data must be ext4 or xfs.');
  if (!/^\d{1,2}$/.test(repeat)) throw new TypeError('--repeat must be a number from 0 to 99.');

  if ((shell || down) && command.length > 0)
    throw new TypeError(`${shell ? '--shell' : '--down'} takes no command, and there is ${command[0]}.`);
  if (down) return 'down';
  if (shell && !terminal) throw new TypeError('--shell needs a terminal; name a command instead.');
  if (!shell && command.length === 0) throw new TypeError('Name a command, or use --shell.');
  return {
    ...{ data, repeat: Number(repeat), fresh, terminal: shell },
    command: terminal && shell ? shellOf(terminal) : command,
  };
}

/** Our own arguments, and those from the first on that is no option of ours. */
function split(args: readonly string[]): [string[], string[]] {
  let at = 0;
  while (args[at]?.startsWith('-') && args[at] !== '--') {
    at += ['--data', '--repeat'].includes(args[at] ?? '') ? 2 : 1;
  }
  return [args.slice(0, at), args.slice(args[at] === '--' ? at + 1 : at)];
}

/** In a terminal of its own, which has the size of this one. */
function shellOf({ rows, columns }: { rows: number; columns: number }): string[] {
  return ['script', '-qefc', `stty rows ${rows} cols ${columns}; exec bash -l`, '/dev/null'];
}
