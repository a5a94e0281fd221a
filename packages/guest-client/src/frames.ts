/** A stream of the agent's: frames in order, until its end. */
import type { Readable } from 'node:stream';
import { chunksOf } from './connect/chunks.ts';
import { type Envelope, EnvelopeDecoder, EnvelopeError } from './connect/envelope.ts';
import { asObject, asText, type Json, parseObject } from './connect/json.ts';
import { connectionError, guestProtocol } from './errors.ts';
import { Refused } from './transport.ts';

export interface StreamOptions {
  /** Memory for a piece of output, `length` bytes. Default: new for each. */
  allocate?: ((length: number) => Buffer) | undefined;
  /** Ends the stream at any time. */
  signal?: AbortSignal | undefined;
}

/** Between keepalives of the agent, s. The transport's idle time-out is longer. */
const keepaliveSec = 30;
export const keepalives = { 'keepalive-ping-interval': String(keepaliveSec) };

/** Longest frame, `bytes`: an agent sends output in pieces of 64 KiB. */
const frameLimit = 1024 * 1024;

/** Ends the connection when it is left. @throws {Refused} the error that the stream ended with */
export async function* readFrames(
  body: Readable,
  sandboxId: string,
  { allocate, signal }: StreamOptions,
): AsyncGenerator<Envelope, void, void> {
  const decoder = new EnvelopeDecoder(frameLimit, allocate);
  try {
    for await (const chunk of chunksOf(body)) {
      for (const frame of decoder.push(chunk)) {
        if (!frame.end) {
          yield frame;
          continue;
        }
        const error = readError(readJson(frame.payload, sandboxId));
        if (error) throw new Refused(error);
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

/** @throws guest_protocol */
export function readJson(payload: Buffer, sandboxId: string): Json {
  const json = parseObject(payload);
  if (!json) throw guestProtocol(sandboxId, 'a message is no JSON object');
  return json;
}

/** Undefined when the stream ended well. */
function readError(json: Json): Refused['refusal'] | undefined {
  if (json.error === undefined || json.error === null) return undefined;
  const error = asObject(json.error);
  const reason = asText(error?.reason, 40);
  return {
    code: asText(error?.code, 40) ?? 'unknown',
    message: asText(error?.message, 65_536) ?? '',
    ...(reason ? { reason } : {}),
  };
}
