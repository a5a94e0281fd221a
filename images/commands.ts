import { spawn } from 'node:child_process';
import { BuildError } from './errors.ts';

const TAIL_LINES = 15;

export type CommandOptions = {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** The remedy for the person at the keyboard when this command fails. */
  remedy?: string;
};

/**
 * Runs a program to its end and resolves to its standard output.
 * @throws {BuildError} when it cannot start or fails; carries the last lines that it printed.
 */
export function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stdout: Buffer[] = [];
  const everything: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout.push(chunk);
    everything.push(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => everything.push(chunk));
  const remedy = options.remedy ?? 'Run `npm run setup` again; it continues with what is missing.';
  child.on('error', (cause) => {
    reject(new BuildError(`${command} could not be started: ${cause.message}`, remedy, { cause }));
  });
  child.on('close', (code, signal) => {
    if (code === 0) return resolve(Buffer.concat(stdout).toString());
    const tail = Buffer.concat(everything).toString().trimEnd().split('\n').slice(-TAIL_LINES).join('\n  ');
    const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
    reject(new BuildError(`${[command, ...args].join(' ')} failed with ${how}:\n  ${tail}`, remedy));
  });
  return promise;
}
