/** `perch exec` and `perch shell`: commands in a sandbox that feel like those of this machine. */
export { attach, type ExecOptions, runCommand } from './run.ts';
export { runShell, type ShellOptions } from './shell.ts';
