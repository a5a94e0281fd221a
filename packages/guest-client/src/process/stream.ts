/** The messages of one process stream, in order, until its end. */
import type { Readable } from 'node:stream';
import { guestProtocol } from '../errors.ts';
import { readFrames, readJson, type StreamOptions } from '../frames.ts';
import { type ProcessMessage, readMessage, readOutput } from './messages.ts';

/** Ends the connection when it is left. @throws {Refused} the error that the stream ended with */
export async function* readProcessStream(
  body: Readable,
  sandboxId: string,
  options: StreamOptions,
): AsyncGenerator<ProcessMessage, void, void> {
  for await (const { output: stream, payload } of readFrames(body, sandboxId, options)) {
    if (stream) {
      yield { type: stream, data: payload };
      continue;
    }
    // Of the agent of an older snapshot.
    const output = readOutput(payload);
    if (output) {
      yield output;
      continue;
    }
    const message = readMessage(readJson(payload, sandboxId));
    if (typeof message === 'string') throw guestProtocol(sandboxId, message);
    yield message;
  }
}
