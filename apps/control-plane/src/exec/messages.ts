/** The messages of the client of `exec/stream`, checked. */
import { ExecClientMessage, PerchError, streamNumbers } from '@perch/protocol';
import { type Static, Type } from 'typebox';
import { type Check, checker } from '../validation/index.ts';

export type ClientMessage = Static<typeof ExecClientMessage>;
export type Start = Extract<ClientMessage, { type: 'start' }>;
export type Attach = Extract<ClientMessage, { type: 'attach' }>;
export type Stdin = Extract<ClientMessage, { type: 'stdin' }>;

/** The largest message a client may send: a `start` with a full environment and arguments fits. */
export const maxMessageBytes = 16 * 1024 * 1024;

/** One check for each type of message, so that a wrong one is told what its own fields are. */
const checks = new Map<string, Check<typeof ExecClientMessage>>(
  ExecClientMessage.anyOf.map((schema) => [
    schema.properties.type.const,
    checker(schema, 'the message') as unknown as Check<typeof ExecClientMessage>,
  ]),
);
const TypeOnly = Type.Object({ type: Type.Enum([...checks.keys()]) });
const checkType = checker(TypeOnly, 'the message');

/** The bytes of a binary message, which can only be stdin. @throws PerchError validation_failed */
export function parseStdin(data: Buffer): Buffer {
  if (data[0] !== streamNumbers.stdin)
    throw problem('is binary and does not begin with 0, the number of stdin');
  return data.subarray(1);
}

/** @throws PerchError validation_failed */
export function parse(data: Buffer): ClientMessage {
  let value: unknown;
  try {
    value = JSON.parse(data.toString('utf8'));
  } catch {
    throw problem('must be JSON');
  }
  const { type } = checkType(value);
  const message = checks.get(type)?.(value);
  if (!message) throw problem('is of an unknown type');
  if (message.type === 'stdin' && (message.data === undefined) === (message.data_base64 === undefined)) {
    throw problem('of type stdin must have one of data and data_base64');
  }
  return message;
}

/** @throws PerchError validation_failed */
export function bytesOf(message: Stdin): Buffer {
  return message.data === undefined
    ? fromBase64(message.data_base64 ?? '')
    : Buffer.from(message.data, 'utf8');
}

/** Of either alphabet of RFC 4648, with its padding or without; Buffer passes over what is none of it. */
function fromBase64(text: string): Buffer {
  const body = text.replace(/={1,2}$/, '');
  const stray = body.search(/[^A-Za-z0-9+/_-]/);
  if (stray >= 0) throw notBase64(`the character at ${stray} is none of it`);
  const padded = body.length < text.length;
  if (body.length % 4 === 1 || (padded && text.length % 4 !== 0)) {
    throw notBase64('its end is missing or too long');
  }
  return Buffer.from(body, 'base64');
}

function notBase64(why: string): PerchError {
  return problem(`of type stdin must have base64 in data_base64: ${why}`);
}

export function problem(message: string): PerchError {
  return new PerchError('validation_failed', `the message ${message}`, {
    problems: [{ where: 'the message', message }],
  });
}
