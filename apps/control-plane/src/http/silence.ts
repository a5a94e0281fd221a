import type { IncomingMessage, ServerResponse } from 'node:http';
import { Http2ServerRequest } from 'node:http2';

/** Longest silence of a client that sends or takes a file, ms. */
const longestMs = 120_000;

/** Cuts off a client that neither sends nor takes anything for long. */
export function cutSilence(
  request: IncomingMessage,
  response: ServerResponse,
  silenceMs = longestMs,
): Disposable {
  const asked: unknown = request;
  // By HTTP/2 its socket is that of all streams of the connection.
  const own = asked instanceof Http2ServerRequest ? asked.stream : request.socket;
  const cut = () => response.destroy();
  own.setTimeout(silenceMs, cut);
  return {
    [Symbol.dispose]() {
      own.setTimeout(0);
      own.off('timeout', cut);
    },
  };
}
