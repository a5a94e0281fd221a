/** One run of the command line. */
import { CommanderError } from 'commander';
import { createOutput, exitCodes, reportError } from './output.ts';
import { createProgram } from './program.ts';

/** Of a writer whose reader has gone: 128 + SIGPIPE. */
const brokenPipe = 141;

/** Sets the exit code of this process. @param given what was typed after `perch` */
export async function run(given: string[]): Promise<void> {
  const { json, args } = takeJsonFlag(given);
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      // Who has something to remove first listens for the signal that this stands for.
      if (!process.emit('SIGPIPE', 'SIGPIPE')) process.exit(brokenPipe);
    });
  }

  try {
    const program = await createProgram(createOutput(json), args);
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? usageError(error, json) : reportError(error, json);
  }
}

/** Commander has told people already. @returns the exit code */
function usageError({ exitCode, message }: CommanderError, json: boolean): number {
  if (exitCode === 0) return exitCodes.ok;
  if (json) {
    const told = { code: 'usage', message: message.replace(/^error: /, ''), remedy: 'See --help.' };
    process.stderr.write(`${JSON.stringify({ error: told })}\n`);
  }
  return exitCodes.usage;
}

/** The flag counts wherever it stands, up to the `--` that a command in a sandbox follows. */
function takeJsonFlag(given: string[]): { json: boolean; args: string[] } {
  const end = given.indexOf('--');
  const own = end < 0 ? given : given.slice(0, end);
  const rest = end < 0 ? [] : given.slice(end);
  return { json: own.includes('--json'), args: [...own.filter((arg) => arg !== '--json'), ...rest] };
}
