/** Scripts that complete `perch` commands, options and ids in a shell. */
export { completionScript, type Shell, shells } from './scripts.ts';
