/**
 * Files of 64 MiB to and from a sandbox, against plain TCP through the same tap; and the same bytes as input and
 * output of a command, against the file.
 */
import { randomBytes } from 'node:crypto';
import type { Perch } from '../packages/sdk/src/index.ts';
import type { Measure } from './bench.ts';
import { inTurn, type Sample, timed } from './in-turn.ts';
import { TcpPeer } from './tcp-peer.ts';

const bytes = 64 * 2 ** 20;
const path = '/home/user/bench.bin';
const turns = { n: 10, warmUp: 1 };
const targets = { ratio_p50: 0.5 };

export const files: Measure = async ({ instance, sandbox, signal, progress }) => {
  const { perch } = instance;
  const data = randomBytes(bytes);
  await using peer = await TcpPeer.start(perch, sandbox);
  progress('upload of 64 MiB, against plain TCP');
  const write = () => perch.sandboxes.files.write(sandbox, path, data);
  const upload = await inTurn(
    { samples: rate(write), floor: rate(() => peer.send(data)) },
    { ...turns, signal },
  );
  progress('download of 64 MiB, against plain TCP');
  const download = await inTurn(
    { samples: rate(() => read(perch, sandbox)), floor: rate(() => peer.receive(bytes)) },
    { ...turns, signal },
  );
  progress('input of a command that drops it, against the upload');
  const input = await inTurn(
    { samples: rate(() => feed(perch, sandbox, data)), floor: rate(write) },
    { ...turns, signal },
  );
  progress('output of a command that reads the file, against the download');
  const output = await inTurn(
    { samples: rate(() => drain(perch, sandbox)), floor: rate(() => read(perch, sandbox)) },
    { ...turns, signal },
  );
  return [
    { name: 'upload', unit: 'MB/s', ...upload, targets },
    { name: 'download', unit: 'MB/s', ...download, targets },
    { name: 'input of a command', unit: 'MB/s', ...input, targets },
    { name: 'output of a command', unit: 'MB/s', ...output, targets },
  ];
};

/** To no file: what a guest's page cache costs is not the stream's, and an upload goes past it. */
async function feed(perch: Perch, id: string, data: Uint8Array): Promise<void> {
  const args = ['-c', 'cat > /dev/null'];
  await using stream = await perch.sandboxes.execStream(id, { cmd: 'sh', args, stdin: true });
  await stream.write(data);
  await stream.closeStdin();
  for await (const event of stream) {
    if (event.type !== 'exit' || event.exit_code !== 0) throw new Error(`cat said ${JSON.stringify(event)}.`);
  }
}

async function drain(perch: Perch, id: string): Promise<void> {
  await using stream = await perch.sandboxes.execStream(id, { cmd: 'cat', args: [path] });
  let received = 0;
  for await (const event of stream) if (event.type === 'stdout') received += event.data.byteLength;
  if (received !== bytes) throw new Error(`Of ${bytes} bytes ${received} came.`);
}

/** As it comes: a file may be larger than the memory of whoever reads it. */
async function read(perch: Perch, id: string): Promise<void> {
  const { stream } = await perch.sandboxes.files.download(id, path);
  let received = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    received += value.byteLength;
  }
  if (received !== bytes) throw new Error(`Of ${bytes} bytes ${received} came.`);
}

function rate(transfer: () => Promise<void>): Sample {
  return async () => bytes / 1e6 / ((await timed(transfer)) / 1000);
}
