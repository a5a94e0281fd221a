/** `perch exec`, `perch shell` and `perch run`: commands in a sandbox that feel like those of this machine. */
export { runOnce } from './once.ts';
export { attach, type ExecOptions, runCommand } from './run.ts';
export { runShell, type ShellOptions } from './shell.ts';
