export { runCommand } from './run.ts';
export { ExecSession, maxMessageBytes } from './session.ts';
