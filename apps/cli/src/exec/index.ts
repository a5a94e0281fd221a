/** `perch exec`: a command in a sandbox that feels like one of this machine. */
export { attach, type ExecOptions, runCommand } from './run.ts';
