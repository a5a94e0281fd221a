/** Sources of bytes, and streams that know when they are whole. */
import { PerchError } from '@perch/protocol';
import type { Answer, Body } from './transport/index.ts';

/** The sources of an upload. Streams are read once; bytes must stay as they are until the call is over. */
export type Source =
  | string
  | Uint8Array<ArrayBuffer>
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** A body of a request; an error of the source itself goes to `failed`. */
export function bodyOf(source: Source, failed: (error: unknown) => void): Body {
  if (typeof source === 'string' || source instanceof Uint8Array || source instanceof Blob) return source;
  return watched(source as AsyncIterable<Uint8Array>, failed);
}

function watched(
  source: AsyncIterable<Uint8Array>,
  failed: (error: unknown) => void,
): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]() {
      const chunks = source[Symbol.asyncIterator]();
      return {
        async next() {
          try {
            return await chunks.next();
          } catch (error) {
            failed(error);
            throw error;
          }
        },
        async return() {
          await chunks.return?.();
          return { done: true, value: undefined };
        },
      };
    },
  };
}

/**
 * Never takes a part for the whole: fails with the error that a trailer says, and with transfer_interrupted when the body
 * ends early without one.
 */
export function wholeBody(
  answer: Answer,
  path: string,
  signal: AbortSignal | undefined,
): { stream: ReadableStream<Uint8Array>; size: number | undefined } {
  const length = answer.header('content-length');
  const size = length === undefined ? undefined : Number(length);
  const reader = answer.reader();
  let received = 0;
  const broken = (cause?: unknown) =>
    new PerchError(
      'transfer_interrupted',
      `The transfer of ${path} broke off after ${received} bytes.`,
      { path },
      {
        cause,
      },
    );
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (!done) {
            received += value.byteLength;
            controller.enqueue(value);
            return;
          }
          const failure = answer.trailer('perch-error');
          if (failure !== undefined) controller.error(errorOf(failure) ?? broken());
          else if (size !== undefined && received !== size) controller.error(broken());
          else controller.close();
        } catch (error) {
          controller.error(signal?.aborted ? signal.reason : broken(error));
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return { stream, size };
}

function errorOf(trailer: string): PerchError | undefined {
  try {
    return PerchError.fromBody(JSON.parse(trailer));
  } catch {
    return undefined;
  }
}

export async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    length += value.byteLength;
  }
  const all = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return all;
}
