/** All commands, and what holds for each of them. */
import { version } from '@perch/protocol';
import { Command } from 'commander';
import type { Output } from './output.ts';

type Add = (program: Command, output: Output) => void;

/** In the order of the help. Each is loaded when it is needed. */
const commands: Readonly<Record<string, () => Promise<Add>>> = {
  up: async () => (await import('./commands/up.ts')).addUp,
  down: async () => (await import('./commands/down.ts')).addDown,
  install: async () => (await import('./commands/install.ts')).addInstall,
  create: async () => (await import('./commands/create.ts')).addCreate,
  ls: async () => (await import('./commands/ls.ts')).addLs,
  run: async () => (await import('./commands/run.ts')).addRun,
  exec: async () => (await import('./commands/exec.ts')).addExec,
  shell: async () => (await import('./commands/shell.ts')).addShell,
  ps: async () => (await import('./commands/ps.ts')).addPs,
  attach: async () => (await import('./commands/attach.ts')).addAttach,
  kill: async () => (await import('./commands/kill.ts')).addKill,
  cp: async () => (await import('./commands/cp.ts')).addCp,
  pause: async () => (await import('./commands/pause.ts')).addPause,
  resume: async () => (await import('./commands/resume.ts')).addResume,
  fork: async () => (await import('./commands/fork.ts')).addFork,
  snapshot: async () => (await import('./commands/snapshot.ts')).addSnapshot,
  template: async () => (await import('./commands/template.ts')).addTemplate,
  history: async () => (await import('./commands/history.ts')).addHistory,
  rm: async () => (await import('./commands/rm.ts')).addRm,
  url: async () => (await import('./commands/url.ts')).addUrl,
  forward: async () => (await import('./commands/forward.ts')).addForward,
  logs: async () => (await import('./commands/logs.ts')).addLogs,
  e2b: async () => (await import('./commands/e2b.ts')).addE2b,
  tls: async () => (await import('./commands/tls.ts')).addTls,
  doctor: async () => (await import('./commands/doctor.ts')).addDoctor,
  leaks: async () => (await import('./commands/leaks.ts')).addLeaks,
  fsck: async () => (await import('./commands/fsck.ts')).addFsck,
  completion: async () => (await import('./commands/completion.ts')).addCompletion,
};

/** @param args what it is to parse: with a command that knows no others it has that one alone, and none for its version */
export async function createProgram(output: Output, args: readonly string[] = []): Promise<Command> {
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
  perch run -- python3 -c 'print(6*7)'       runs a command in a sandbox of its own
  perch create                               prints the id of a new sandbox
  perch exec ID -- python3 -c 'print(6*7)'   runs a command in it
  perch shell ID                             opens a shell in it
  perch cp data.csv ID:                      copies a file into it
  perch pause ID; perch resume ID            puts it aside, and takes it up where it was
  perch fork ID                              makes another that goes on from where it is
  perch rm ID

Which Perch: PERCH_URL and PERCH_API_KEY, else ~/.config/perch/config.json (or PERCH_CONFIG), which \`perch up\` writes.

Exit codes: 0 done, 1 it failed and the message says what to do, 2 the command line is wrong, 70 a fault of Perch's
own. \`perch exec\` has those of the command: see perch exec --help.`,
    );
  if (output.json) program.configureOutput({ writeErr: () => {} });
  const [name = ''] = args;
  const alone = name === '--version' || (name !== 'completion' && Object.hasOwn(commands, name));
  const needed = alone ? [commands[name]] : Object.values(commands);
  const loading = needed.flatMap((load) => (load ? [load()] : []));
  for (const add of await Promise.all(loading)) add(program, output);
  return program;
}
