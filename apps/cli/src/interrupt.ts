import { constants } from 'node:os';
import { CliError } from './errors.ts';

const ending = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The reason of a signal's abort. */
export class InterruptedError extends CliError {
  override readonly name = 'InterruptedError';
  /** As of a program that the signal ended: 128 + its number. */
  readonly exitCode: number;

  constructor(name: (typeof ending)[number] | 'SIGPIPE') {
    super(`Interrupted by ${name}.`, 'Nothing of it was kept. Run it again.');
    this.exitCode = 128 + constants.signals[name];
  }
}

/**
 * Runs work that leaves things to be removed when it is broken off: Ctrl-C, SIGTERM and SIGHUP abort its signal. The
 * second of them ends this process at once.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stop = (name: (typeof ending)[number]) => {
    for (const one of ending) process.off(one, stop);
    abort.abort(new InterruptedError(name));
  };
  for (const name of ending) process.on(name, stop);
  try {
    return await work(abort.signal);
  } catch (error) {
    // The end of a child, which the terminal signals as well, is not why.
    abort.signal.throwIfAborted();
    throw error;
  } finally {
    for (const name of ending) process.off(name, stop);
  }
}
