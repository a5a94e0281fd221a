#!/usr/bin/env node
/** `perch`, the command line. */
import { version } from '@perch/protocol';
import { Command, CommanderError } from 'commander';
import { addDown } from './commands/down.ts';
import { addUp } from './commands/up.ts';
import { createOutput, exitCodes, reportError } from './output.ts';

const { json, args } = takeJsonFlag(process.argv.slice(2));
const output = createOutput(json);

const program = new Command('perch')
  .description('microVM sandboxes for code that nobody trusts')
  .version(version)
  .option('--json', 'print JSON for programs; goes with every command')
  .enablePositionalOptions()
  .showHelpAfterError('(see perch --help)')
  .exitOverride();

addUp(program, output);
addDown(program, output);

try {
  await program.parseAsync(args, { from: 'user' });
} catch (error) {
  if (error instanceof CommanderError)
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  else process.exitCode = reportError(error, json);
}

/** The flag counts wherever it stands, up to the `--` that a command in a sandbox follows. */
function takeJsonFlag(given: string[]): { json: boolean; args: string[] } {
  const end = given.indexOf('--');
  const own = end < 0 ? given : given.slice(0, end);
  const rest = end < 0 ? [] : given.slice(end);
  return { json: own.includes('--json'), args: [...own.filter((arg) => arg !== '--json'), ...rest] };
}
