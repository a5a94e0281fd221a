import type { FastifyReply } from 'fastify';

/** Aborts when the connection ends before the answer was written. */
export function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the client went away'));
  });
  if (reply.raw.destroyed && !reply.raw.writableFinished) gone.abort(new Error('the client went away'));
  return gone.signal;
}
