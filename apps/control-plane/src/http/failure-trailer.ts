/** The trailer by which an answer that has begun says why it ends before its end. */
import type { ServerResponse } from 'node:http';
import { finished } from 'node:stream/promises';
import type { PerchError } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';

export const failureTrailer = 'perch-error';
/** Of the value, which is escaped, characters: Node takes 16 KiB of headers. */
const longestTrailer = 8192;

/** One that a proxy cannot have passed on unread: it takes what `Connection` lists out. */
export function takesTrailers({ headers, raw }: FastifyRequest): boolean {
  const lists = (name: string, value: unknown) =>
    String(value)
      .split(',')
      .some((one) => one.trim().toLowerCase() === name);
  return raw.httpVersion === '1.1' && lists('trailers', headers.te) && lists('te', headers.connection);
}

/** Ends the answer with the body that the error would have had. */
export async function breakOff(to: ServerResponse, error: PerchError): Promise<void> {
  const body = error.toBody();
  const whole = escaped(body);
  const { details: _, ...short } = body.error;
  to.addTrailers({
    [failureTrailer]: whole.length > longestTrailer ? escaped({ error: short }) : whole,
  });
  to.end();
  // Of a client that goes away now.
  await finished(to).catch(() => {});
}

/** JSON in ASCII. */
function escaped(body: unknown): string {
  const hex = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(body).replace(/[^ -~]/g, hex);
}
