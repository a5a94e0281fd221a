/** Scripts that run in a sandbox as its user. */
import { setTimeout as delay } from 'node:timers/promises';
import { quoted } from '@perch/node-kit';
import { limits } from '@perch/protocol';
import type { ExecStream, Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';

/** Of a stream that a script puts out, characters. */
const longestOutput = 16_384;
/** How long the end of a script is waited for that was told to stop, ms. */
const stopWithinMs = 10_000;

/** A script whose input is open. Disposed of, it is stopped, and its end waited for. */
export interface Running extends AsyncDisposable {
  stream: ExecStream;
  /** Standard output. Rejects with a CliError for another exit code than 0. */
  output: Promise<string>;
}

export class GuestShell {
  readonly #perch: { sandboxes: Pick<Perch['sandboxes'], 'execStream'> };
  readonly #id: string;

  constructor(perch: { sandboxes: Pick<Perch['sandboxes'], 'execStream'> }, id: string) {
    this.#perch = perch;
    this.#id = id;
  }

  /** @returns standard output @throws CliError when it fails */
  async run(script: string, ...args: string[]): Promise<string> {
    await using running = await this.#open(script, args, false);
    return await running.output;
  }

  async start(script: string, ...args: string[]): Promise<Running> {
    return await this.#open(script, args, true);
  }

  async #open(script: string, args: string[], stdin: boolean): Promise<Running> {
    const stream = await this.#perch.sandboxes.execStream(this.#id, {
      cmd: 'sh',
      args: ['-c', script, 'sh', ...args],
      stdin,
      timeout_sec: limits.exec.timeoutSecMax,
    });
    const output = outputOf(stream);
    const over = output.catch(() => '');
    return {
      stream,
      output,
      async [Symbol.asyncDispose]() {
        // Behind input that the command does not read, it may never be on its way.
        stream.stop().catch(() => {});
        await Promise.race([over, delay(stopWithinMs, undefined, { ref: false })]);
        stream.close();
      },
    };
  }
}

/** @throws CliError when it fails */
async function outputOf(stream: ExecStream): Promise<string> {
  const said = { stdout: '', stderr: '' };
  for await (const event of stream) {
    if (event.type !== 'exit') {
      const text = said[event.type] + Buffer.from(event.data).toString('utf8');
      said[event.type] = text.slice(0, longestOutput);
    } else if (event.exit_code !== 0) {
      throw new CliError(
        `The sandbox could not unpack it (exit code ${event.exit_code}): ${quoted(said.stderr)}`,
        'Check the path, and that its disk has room: perch exec ID -- df -h',
      );
    }
  }
  return said.stdout;
}
