import type { Readable } from 'node:stream';
import type { ExecStream } from '@perch/sdk';

/** Sends all of the input, as fast as it is taken, and then its end. */
export async function feed(input: Readable, stream: Pick<ExecStream, 'write' | 'closeStdin'>): Promise<void> {
  for await (const chunk of input as AsyncIterable<Buffer>) await stream.write(chunk);
  await stream.closeStdin();
}
