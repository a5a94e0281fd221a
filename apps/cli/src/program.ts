/** All commands, and what holds for each of them. */
import { version } from '@perch/protocol';
import { Command } from 'commander';
import { addAttach } from './commands/attach.ts';
import { addCompletion } from './commands/completion.ts';
import { addCp } from './commands/cp.ts';
import { addCreate } from './commands/create.ts';
import { addDoctor } from './commands/doctor.ts';
import { addDown } from './commands/down.ts';
import { addExec } from './commands/exec.ts';
import { addFork } from './commands/fork.ts';
import { addFsck } from './commands/fsck.ts';
import { addHistory } from './commands/history.ts';
import { addInstall } from './commands/install.ts';
import { addKill } from './commands/kill.ts';
import { addLeaks } from './commands/leaks.ts';
import { addLogs } from './commands/logs.ts';
import { addLs } from './commands/ls.ts';
import { addPause } from './commands/pause.ts';
import { addPs } from './commands/ps.ts';
import { addResume } from './commands/resume.ts';
import { addRm } from './commands/rm.ts';
import { addSnapshot } from './commands/snapshot.ts';
import { addUp } from './commands/up.ts';
import type { Output } from './output.ts';

export function createProgram(output: Output): Command {
  const program = new Command('perch')
    .description('microVM sandboxes for code that nobody trusts')
    .version(version)
    .option('--json', 'print JSON for programs; goes with every command, before any --')
    .enablePositionalOptions()
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .addHelpText(
      'after',
      `
A first tour:
  sudo perch up                              start Perch here, and keep this terminal
  perch create                               prints the id of a new sandbox
  perch exec ID -- python3 -c 'print(6*7)'   runs a command in it
  perch cp data.csv ID:                      copies a file into it
  perch pause ID; perch resume ID            puts it aside, and takes it up where it was
  perch fork ID                              makes another that goes on from where it is
  perch rm ID

Which Perch: PERCH_URL and PERCH_API_KEY, else ~/.config/perch/config.json (or PERCH_CONFIG), which \`perch up\` writes.

Exit codes: 0 done, 1 it failed and the message says what to do, 2 the command line is wrong, 70 a fault of Perch's
own. \`perch exec\` has those of the command: see perch exec --help.`,
    );
  if (output.json) program.configureOutput({ writeErr: () => {} });
  for (const add of [
    addUp,
    addDown,
    addInstall,
    addCreate,
    addLs,
    addExec,
    addPs,
    addAttach,
    addKill,
    addCp,
    addPause,
    addResume,
    addFork,
    addSnapshot,
    addHistory,
    addRm,
    addLogs,
    addDoctor,
    addLeaks,
    addFsck,
  ]) {
    add(program, output);
  }
  addCompletion(program);
  return program;
}
