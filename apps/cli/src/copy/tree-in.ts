/**
 * A directory of this machine, with all that is below, into a sandbox: packed here, and unpacked there by tar beside the
 * place where it is to be, which it takes when all of it has come.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { addAbortSignal, type Readable } from 'node:stream';
import { quoted } from '@perch/node-kit';
import type { Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';
import { beyondTimes } from './beyond-times.ts';
import { discard, join, stage, unpack } from './guest-scripts.ts';
import { GuestShell, type Running } from './guest-shell.ts';

/** Modes are those of the archive, whatever the umask; setuid, setgid and sticky bits do not go along. */
const pack = ['--create', '--format=pax', '--mode=u-s,g-s,o-t', '--file=-', '.'];
/** Of what a program says to its end, characters. */
const longestWords = 4096;

export interface SendOptions {
  perch: { sandboxes: Pick<Perch['sandboxes'], 'execStream'> };
  id: string;
  /** Passes the archive on. */
  through: (content: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Told of a directory of the sandbox that could not be removed after a failure. */
  leftBehind: (path: string) => void;
  /** Told of what has the nearest time that the disk of a sandbox has. */
  untimed: (path: string) => void;
  signal: AbortSignal;
}

/**
 * A directory that is there stays, with what is in it; files of the same names are written over. Nothing of either
 * changes before all has come, and a failure until then leaves the sandbox as it was.
 * @throws CliError when either end cannot
 */
export async function sendTree(options: SendOptions, from: string, to: string): Promise<void> {
  const { perch, id, signal, leftBehind, untimed } = options;
  const shell = new GuestShell(perch, id);
  const target = to.startsWith('/') ? to : `./${to}`;
  const staged = (await shell.run(stage, target)).replace(/\n$/, '');
  try {
    signal.throwIfAborted();
    await send(options, shell, from, staged);
    signal.throwIfAborted();
    await shell.run(join, staged, target);
  } catch (error) {
    await shell.run(discard, staged).catch(() => leftBehind(staged));
    throw error;
  }
  for await (const path of beyondTimes(from, signal)) untimed(path);
}

/** Resolves when all of it is there. The command that unpacks it has ended in any case. */
async function send(
  { through, signal }: SendOptions,
  shell: GuestShell,
  from: string,
  staged: string,
): Promise<void> {
  await using unpacking = await shell.start(unpack, staged);
  const packer = spawn('tar', ['--directory', from, ...pack], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  const packed = endOf(packer);
  const words = wordsOf(packer.stderr);
  // Whichever fails first is what the caller hears of.
  for (const one of [packed, words]) one.catch(() => {});
  const aborted = abortOf(signal);
  try {
    const isOver = await pass(through(addAbortSignal(signal, packer.stdout)), unpacking, aborted);
    packer.stdout.destroy();
    const code = await Promise.race([packed, aborted]);
    // One that lost its reader fails, too, and is not why.
    if (code !== 0 && !isOver) {
      throw new CliError(
        `${from} could not be packed whole: ${quoted(await words)}`,
        'Nothing was copied. Check who owns what it names, and copy it again.',
      );
    }
    await Promise.race([unpacking.output, aborted]);
  } catch (error) {
    packer.stdout.destroy();
    if (packer.pid === undefined) await packed;
    packer.kill();
    throw error;
  }
}

/** @returns whether the command ended before it had all @throws what `aborted` rejects with, however little the command reads */
async function pass(
  content: AsyncIterable<Uint8Array>,
  { stream, output }: Running,
  aborted: Promise<never>,
): Promise<boolean> {
  const ended = () => true;
  const over = output.then(ended, ended);
  for await (const chunk of content) {
    const sent = stream.write(chunk).then(() => false);
    if (await Promise.race([sent, over, aborted])) return true;
  }
  await Promise.race([stream.closeStdin(), over, aborted]);
  return false;
}

/** Rejects with the reason of the signal. */
function abortOf(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  if (signal.aborted) reject(signal.reason);
  return promise;
}

/** @returns its exit code @throws CliError when there is no such program */
async function endOf(packer: ChildProcess): Promise<number | null> {
  try {
    const [code] = (await once(packer, 'close')) as [number | null];
    return code;
  } catch (cause) {
    throw new CliError('tar cannot be started on this machine.', 'Install it: apt install tar', { cause });
  }
}

async function wordsOf(stream: Readable): Promise<string> {
  let said = '';
  for await (const chunk of stream) said = (said + String(chunk)).slice(0, longestWords);
  return said;
}
