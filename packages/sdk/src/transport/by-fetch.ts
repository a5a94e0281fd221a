import type { Body, Transport } from './transport.ts';

/** Of long bytes, what is given to fetch at a time: it copies all that it is given before the first byte goes out. */
const pieceBytes = 1024 * 1024;

export function byFetch(fetch: typeof globalThis.fetch): Transport {
  return async (target, { method, headers, body, signal }) => {
    const init: RequestInit & { duplex: 'half' } = {
      method,
      headers: isLong(body) ? { ...headers, 'content-length': String(body.byteLength) } : headers,
      signal: signal ?? null,
      redirect: 'error',
      duplex: 'half',
    };
    if (body !== undefined) init.body = bodyOf(body);
    const response = await fetch(target, init);
    return {
      ok: response.ok,
      status: response.status,
      url: response.url,
      header: (name) => response.headers.get(name) ?? undefined,
      // Nothing tells them.
      trailer: () => undefined,
      text: () => response.text(),
      reader: () => (response.body ?? new Blob([]).stream()).getReader(),
      drop: async () => response.body?.cancel(),
    };
  };
}

function isLong(body: Body | undefined): body is Uint8Array<ArrayBuffer> {
  return body instanceof Uint8Array && body.byteLength > pieceBytes;
}

function bodyOf(body: Body): NonNullable<RequestInit['body']> {
  if (isLong(body)) return streamOf(pieces(body));
  if (typeof body === 'string' || body instanceof Uint8Array || body instanceof Blob) return body;
  return streamOf(body);
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

function streamOf(source: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
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
