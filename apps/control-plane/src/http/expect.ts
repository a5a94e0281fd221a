import type { IncomingMessage } from 'node:http';

/**
 * Whether a client waits with the body of its request until it is told to go on (RFC 9110, 10.1.1). By HTTP/1.0
 * nobody does.
 */
export function awaitsContinue({ headers, httpVersion }: Pick<IncomingMessage, 'headers' | 'httpVersion'>) {
  return httpVersion !== '1.0' && /(?:^|\W)100-continue(?:$|\W)/i.test(headers.expect ?? '');
}
