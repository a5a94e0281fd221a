/** The messages of one process stream, in order, until its end. */
import type { Readable } from 'node:stream';
import { chunksOf } from '../connect/chunks.ts';
import { EnvelopeDecoder, EnvelopeError } from '../connect/envelope.ts';
import { parseObject } from '../connect/json.ts';
import { connectionError, guestProtocol } from '../errors.ts';
import { Refused } from '../transport.ts';
import { type ProcessMessage, readMessage, readOutput, readStreamError } from './messages.ts';

/** Longest message, `bytes`: an agent sends output in pieces of 64 KiB. */
const messageLimit = 1024 * 1024;

export interface StreamOptions {
  /** Memory for a piece of output, `length` bytes. Default: new for each. */
  allocate?: ((length: number) => Buffer) | undefined;
  /** Ends the stream at any time. */
  signal?: AbortSignal | undefined;
}

/** Ends the connection when it is left. @throws {Refused} the error that the stream ended with */
export async function* readProcessStream(
  body: Readable,
  sandboxId: string,
  { allocate, signal }: StreamOptions,
): AsyncGenerator<ProcessMessage, void, void> {
  const decoder = new EnvelopeDecoder(messageLimit, allocate);
  try {
    for await (const chunk of chunksOf(body)) {
      for (const { end, output: stream, payload } of decoder.push(chunk)) {
        if (stream) {
          yield { type: stream, data: payload };
          continue;
        }
        // Of the agent of an older snapshot.
        const output = end ? undefined : readOutput(payload);
        if (output) {
          yield output;
          continue;
        }
        const json = parseObject(payload);
        if (!json) throw guestProtocol(sandboxId, 'a message is no JSON object');
        if (end) {
          const error = readStreamError(json);
          if (error) throw new Refused(error);
          continue;
        }
        const message = readMessage(json);
        if (typeof message === 'string') throw guestProtocol(sandboxId, message);
        yield message;
      }
    }
    decoder.finish();
  } catch (error) {
    if (error instanceof Refused) throw error;
    if (error instanceof EnvelopeError) throw guestProtocol(sandboxId, error.message, error);
    throw connectionError(error, sandboxId, signal);
  } finally {
    body.destroy();
  }
}
