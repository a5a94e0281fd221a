import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const sane = /^[A-Za-z0-9._:-]{1,64}$/;

/** Of this process; with a count it makes ids that are unique and cost nothing. */
const prefix = randomBytes(6).toString('hex');
let count = 0;

/** The caller's own id where it is harmless in a log and a header, else a new one. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  if (typeof given === 'string' && sane.test(given)) return given;
  count = (count + 1) % 2 ** 32;
  return prefix + count.toString(16).padStart(8, '0');
}
