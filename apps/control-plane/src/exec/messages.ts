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

export function bytesOf(message: Stdin): Buffer {
  return message.data === undefined
    ? Buffer.from(message.data_base64 ?? '', 'base64')
    : Buffer.from(message.data, 'utf8');
}

export function problem(message: string): PerchError {
  return new PerchError('validation_failed', `the message ${message}`, {
    problems: [{ where: 'the message', message }],
  });
}
