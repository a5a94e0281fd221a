/** `npm run lab -- CMD`: runs a command in the lab host. */
import { parseArgs } from 'node:util';
import { BuildError, cacheDir } from '../images/index.ts';
import { bringCheckout, labRoot } from './checkout.ts';
import { pass } from './command.ts';
import { takeDown } from './down.ts';
import { LabDied } from './machine.ts';
import { ensureLab, root } from './parts.ts';
import { openLab } from './state.ts';

const help = `Usage: npm run lab -- [OPTION...] [--] COMMAND [ARG...]

Runs a command in the lab host: a virtual machine with device-mapper, KVM, cgroup v2 and systemd, whatever this
machine has. This checkout is in /perch there. Output, signals and exit code are the command's. The lab has no way
out, ends with the command, and leaves nothing. Each run has a lab of its own, so several go on side by side.

The first run builds the lab in PERCH_CACHE and boots it; later ones go on from there in about a second.

  --data ext4|xfs   where PERCH_CACHE and TMPDIR of the command lie: an ext4 disk, or XFS with reflinks (default: ext4)
  --repeat N        run the command again, at most so often, when the lab died; said in the last line (default: 0)
  --fresh           boot the lab anew first
  --shell           an interactive shell instead of a command
  --down            end all labs of this user and remove the state that they go on from
  --help            show this

Exit code 75: the lab died, and nothing is known of the command.`;

/** EX_TEMPFAIL of sysexits.h. */
const labDied = 75;

process.title = 'perch-lab';
process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  let parsed: ReturnType<typeof read>;
  try {
    parsed = read(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    return 2;
  }
  const { values, command } = parsed;
  if (values.help) return say(help);
  if (values.down) return say(await takeDown(cacheDir()));
  if (command.length === 0) {
    console.error(`Name a command, or use --shell.\n\n${help}`);
    return 2;
  }
  let repeated = 0;
  for (let fresh = values.fresh; ; fresh = false) {
    try {
      const code = await runOnce(command, values.data, fresh);
      if (repeated > 0) {
        const died = repeated === 1 ? 'once' : `${repeated} times`;
        console.error(`lab: run ${repeated + 1} times, since the lab died ${died}`);
      }
      return code;
    } catch (error) {
      if (error instanceof BuildError) {
        console.error(`✗ ${error.message}\n  ${error.remedy}`);
        return 1;
      }
      if (!(error instanceof LabDied)) throw error;
      console.error(error.message);
      if (repeated++ >= values.repeat) return labDied;
    }
  }
}

function say(text: string): number {
  console.log(text);
  return 0;
}

/** @throws TypeError for options that are not there */
function read(args: string[]) {
  const end = args.findIndex((arg, i) => arg === '--' || !isOption(args, i));
  const own = end < 0 ? args : args.slice(0, end);
  const rest = end < 0 ? [] : args.slice(args[end] === '--' ? end + 1 : end);
  const { values } = parseArgs({
    args: own,
    options: {
      data: { type: 'string', default: 'ext4' },
      repeat: { type: 'string', default: '0' },
      fresh: { type: 'boolean', default: false },
      shell: { type: 'boolean', default: false },
      down: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (!['ext4', 'xfs'].includes(values.data)) throw new TypeError('--data must be ext4 or xfs.');
  if (!/^\d{1,2}$/.test(values.repeat)) throw new TypeError('--repeat must be a number from 0 to 99.');
  const shell = ['script', '-qfc', 'bash -l', '/dev/null'];
  return { values: { ...values, repeat: Number(values.repeat) }, command: values.shell ? shell : rest };
}

/** Whether an argument is an option of ours, or the value of one. */
function isOption(args: readonly string[], i: number): boolean {
  return args[i]?.startsWith('-') === true || ['--data', '--repeat'].includes(args[i - 1] ?? '');
}

async function runOnce(command: readonly string[], data: string, fresh: boolean): Promise<number> {
  const cache = cacheDir();
  const log = (line: string) => console.error(line);
  const parts = await ensureLab(cache);
  await using lab = await openLab(cache, parts, { fresh, log });
  const place = {
    cwd: labRoot,
    env: {
      HOME: '/root',
      PATH: `${labRoot}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      // Nothing makes nodes for dmsetup but dmsetup itself.
      DM_DISABLE_UDEV: '1',
      PERCH_CACHE: `/data/${data}/cache`,
      TMPDIR: `/data/${data}/tmp`,
    },
  };
  const { stdin, stdout, stderr } = process;
  return await Promise.race([
    lab.died,
    (async () => {
      await bringCheckout(lab.agent, root);
      return await pass(lab.agent, command, place, { stdin, stdout, stderr });
    })(),
  ]);
}
