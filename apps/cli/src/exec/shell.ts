/** `perch shell`: a terminal in a sandbox, in the one that this process has. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { ExecStart, ExecStream, Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';
import { defined } from '../options.ts';
import { exitCodes, type Output, reportError } from '../output.ts';
import { tellHowToFollow } from './run.ts';

export interface ShellOptions {
  cwd?: string;
  user?: string;
}

/** The login shell of the user, whatever the image has. */
const loginShell = { cmd: '/bin/sh', args: ['-c', 'exec "$SHELL" -l'] };
/** Of terminals that do not know how large they are. */
const usualSize = { cols: 80, rows: 24 };

/** @returns the exit code for this process: the shell's, or 125 */
export async function runShell(
  perch: Perch,
  id: string,
  options: ShellOptions,
  output: Output,
): Promise<number> {
  let stream: ExecStream | undefined;
  try {
    stream = await perch.sandboxes.execStream(id, startOf(options));
    return await followTerminal(stream);
  } catch (error) {
    reportError(error, output.json);
    if (stream) tellHowToFollow(error, id, stream.pid);
    return exitCodes.execFailed;
  } finally {
    stream?.close();
  }
}

/** @throws CliError without a terminal */
function startOf({ cwd, user }: ShellOptions): ExecStart {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    const remedy = '`perch exec ID -- sh` runs a shell without one.';
    throw new CliError('Standard input and output are no terminal.', remedy);
  }
  return { ...loginShell, ...defined({ cwd, user }), ...ownTerminal() };
}

/** What a command is told of the terminal of this process. */
export function ownTerminal(): { env?: Record<string, string>; pty: { cols: number; rows: number } } {
  // Programs that know more colours than 256 look at it.
  const { COLORTERM } = process.env;
  return {
    ...defined({ env: COLORTERM === undefined ? undefined : { COLORTERM } }),
    pty: sizeOf(process.stdout),
  };
}

/** Until its end this terminal is that of the command. @returns the exit code of the command */
export async function followTerminal(stream: ExecStream): Promise<number> {
  using _ = hand(process.stdin, process.stdout, stream);
  for await (const event of stream) {
    if (event.type === 'exit') return event.exit_code;
    if (!process.stdout.write(event.data)) await once(process.stdout, 'drain');
  }
  return exitCodes.execFailed;
}

/** All that is typed, Ctrl-C too, and the size of the window go to the sandbox, until disposed of. */
function hand(input: NodeJS.ReadStream, output: NodeJS.WriteStream, stream: ExecStream): Disposable {
  const resized = () => {
    // A connection that broke meanwhile is told by the output's end.
    stream.resize(sizeOf(output)).catch(() => {});
  };
  const typed = async () => {
    for await (const chunk of input as AsyncIterable<Buffer>) await stream.write(chunk);
  };
  input.setRawMode(true);
  // Node's raw mode still makes two characters of each line feed, which moves the cursor of full-screen programs.
  spawnSync('stty', ['-opost'], { stdio: [input, 'ignore', 'ignore'] });
  output.on('resize', resized);
  // The window may have changed while the shell was started.
  resized();
  typed().catch(() => {});
  return {
    [Symbol.dispose]() {
      output.off('resize', resized);
      input.setRawMode(false);
      input.destroy();
    },
  };
}

function sizeOf({ columns, rows }: NodeJS.WriteStream): { cols: number; rows: number } {
  return { cols: columns || usualSize.cols, rows: rows || usualSize.rows };
}
