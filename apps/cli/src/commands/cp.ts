import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { copy, Notices, parsePlace } from '../copy/index.ts';
import { interruptible } from '../interrupt.ts';
import type { Output } from '../output.ts';

export function addCp(program: Command, output: Output): void {
  program
    .command('cp')
    .description('copy files into a sandbox or out of it')
    .usage('[options] FILE ID:PATH | ID:PATH FILE')
    .argument('<source>', 'a file, - for standard input, or ID:PATH')
    .argument('<destination>', 'a file or directory, - for standard output, or ID:PATH')
    .option('-r, --recursive', 'directories, with all that is below')
    .option('-q, --quiet', 'no progress bar')
    .addHelpText(
      'after',
      `
A path in a sandbox is absolute, or relative to the user's home. A file goes into a directory that is there, on either
side, under its own name; a path that ends in a slash is a directory that is made if it is missing.
Modes and times go along, and on this machine the umask counts. A file that is written over in a sandbox keeps owner and
group, and gets no permission that it had not. A file appears whole or not at all.

Where the file system of the other side does not have a time, the file gets the nearest one or that of the copy, and you
are told. The disk of a sandbox has times from December 1901 to May 2446.

With -r a link stays a link, and directories lie no more than 256 deep in each other. A directory that comes out appears
whole or not at all, under a name that is not taken. One that goes into a sandbox is unpacked as .perch-XXXXXXXX in the
directory above, and appears when all of it has come. It joins a directory that is there of that name, in which it is
unpacked then, or beside it where it is read-only: files of the same names are written over and have the modes of the
new ones, directories that are there keep theirs. A file in the place of a directory, or the other way, or a directory
that the user may not write, is refused before anything changes.

A copy that fails, or that Ctrl-C, SIGTERM or SIGHUP ends (exit codes 130, 143, 129), leaves things as they were. Only
a sandbox that cannot be reached any more keeps .perch-XXXXXXXX, and a directory that is joining another when the
disk of the sandbox breaks keeps what has joined.

Examples:
  perch cp data.csv ID:                      to /home/user/data.csv
  perch cp data.csv ID:/tmp                  to /tmp/data.csv
  perch cp data.csv ID:/tmp/input.csv
  perch cp ID:results/plot.png .
  perch cp ID:/var/log/dpkg.log - | tail
  perch cp -r src ID:                        to /home/user/src
  perch cp -r ID:results results`,
    )
    .action(
      async (
        source: string,
        destination: string,
        { quiet, recursive }: { quiet?: true; recursive?: true },
      ) => {
        const began = performance.now();
        const showProgress = !quiet && !output.json && process.stderr.isTTY;
        using notices = new Notices((line) => process.stderr.write(line));
        const result = await interruptible((signal) =>
          copy(new Perch(), parsePlace(source), parsePlace(destination), {
            showProgress,
            recursive: recursive === true,
            leftOut: (path) => notices.tell('Left out, since it is no file, directory or link', path),
            untimed: (path) =>
              notices.tell('Without its time, which the file system there does not take', path),
            leftBehind: (path) => notices.tell('Left in the sandbox, since it could not be removed', path),
            signal,
          }),
        );
        output.value({
          source,
          destination: result.destination,
          bytes: result.bytes,
          ms: Math.round(performance.now() - began),
        });
      },
    );
}
