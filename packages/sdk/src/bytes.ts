/** Sources of bytes, and streams that know when they are whole. */
import { PerchError } from '@perch/protocol';

/** The sources of an upload. Streams are read once; bytes must stay as they are until the call is over. */
export type Source =
  | string
  | Uint8Array<ArrayBuffer>
  | Blob
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

export type Body = NonNullable<RequestInit['body']>;

/** Of long bytes, what is given to fetch at a time. */
const pieceBytes = 1024 * 1024;

/** A body for fetch, and its bytes if fetch cannot tell; an error of the source itself goes to `failed`. */
export function bodyOf(source: Source, failed: (error: unknown) => void): { body: Body; size?: number } {
  if (typeof source === 'string') return bodyOf(new TextEncoder().encode(source), failed);
  if (source instanceof Blob) return { body: source };
  if (source instanceof Uint8Array) {
    // Given bytes, fetch copies all of them before the first goes out.
    return source.byteLength <= pieceBytes
      ? { body: source }
      : { body: streamOf(pieces(source), failed), size: source.byteLength };
  }
  return { body: streamOf(source as AsyncIterable<Uint8Array>, failed) };
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

function streamOf(source: AsyncIterable<Uint8Array>, failed: (error: unknown) => void) {
  const chunks = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          failed(error);
          controller.error(error);
        }
      },
      async cancel() {
        await chunks.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Fails with transfer_interrupted when the body ends early, and never takes a part for the whole. */
export function wholeBody(
  response: Response,
  path: string,
  signal: AbortSignal | undefined,
): { stream: ReadableStream<Uint8Array>; size: number | undefined } {
  const length = response.headers.get('content-length');
  const size = length === null ? undefined : Number(length);
  const body = response.body ?? new Blob([]).stream();
  const reader = body.getReader();
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
          } else if (size !== undefined && received !== size) controller.error(broken());
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
