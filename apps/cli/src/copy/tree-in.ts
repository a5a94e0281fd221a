/** A directory of this machine, with all that is below, into a sandbox: packed here and unpacked there by tar. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { quoted } from '@perch/node-kit';
import { limits } from '@perch/protocol';
import type { ExecStream, Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';

/** Modes are those of the archive, whatever the umask; setuid, setgid and sticky bits do not go along. */
const pack = ['--create', '--format=pax', '--mode=u-s,g-s,o-t', '--file=-', '.'];
const unpack = 'mkdir -p -- "$1" && exec tar --extract --preserve-permissions --file=- --directory="$1"';
/** Of what a program says to its end, characters. */
const longestWords = 4096;

/**
 * What is there already is written over, and nothing is removed.
 * @param through passes the archive on
 * @throws CliError when either end cannot
 */
export async function sendTree(
  perch: Perch,
  id: string,
  from: string,
  to: string,
  through: (content: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
): Promise<void> {
  await using stream = await perch.sandboxes.execStream(id, {
    cmd: 'sh',
    args: ['-c', unpack, 'sh', to],
    stdin: true,
    timeout_sec: limits.exec.timeoutSecMax,
  });
  const unpacked = unpacking(stream);
  const over = unpacked.then(
    () => true,
    () => true,
  );
  const packer = spawn('tar', ['--directory', from, ...pack], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C' },
  });
  const packed = once(packer, 'close') as Promise<[code: number | null]>;
  const words = wordsOf(packer.stderr);
  let isOver = false;
  try {
    for await (const chunk of through(packer.stdout)) {
      const sent = stream.write(chunk).then(() => false);
      isOver = await Promise.race([sent, over]);
      if (isOver) break;
    }
    await stream.closeStdin();
  } finally {
    packer.stdout.destroy();
  }
  const [code] = await packed;
  // One that lost its reader fails, too, and is not why.
  if (code !== 0 && !isOver) {
    throw new CliError(
      `${from} could not be packed whole: ${quoted(await words)}`,
      'What could be read may be in the sandbox. Check who owns the rest, and copy it again.',
    );
  }
  await unpacked;
}

/** @throws CliError when it fails there */
async function unpacking(stream: ExecStream): Promise<void> {
  let said = '';
  for await (const event of stream) {
    if (event.type === 'exit') {
      if (event.exit_code === 0) return;
      throw new CliError(
        `The sandbox could not unpack it (exit code ${event.exit_code}): ${quoted(said)}`,
        'Check the path, and that its disk has room: perch exec ID -- df -h',
      );
    }
    if (event.type === 'stderr')
      said = (said + Buffer.from(event.data).toString('utf8')).slice(0, longestWords);
  }
}

async function wordsOf(stream: Readable): Promise<string> {
  let said = '';
  for await (const chunk of stream) said = (said + String(chunk)).slice(0, longestWords);
  return said;
}
