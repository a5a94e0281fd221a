export { pageOf, toCommandWithOutput } from './commands.ts';
export { askGuests } from './last-command.ts';
export { maxMessageBytes } from './messages.ts';
export { runCommand } from './run.ts';
export { ExecSession } from './session.ts';
