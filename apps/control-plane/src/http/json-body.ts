/** The JSON body parser: bounded in size, depth and time, and nothing in it that a database cannot hold. */
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { PerchError } from '@perch/protocol';
import { refuseEncoding } from './content-encoding.ts';

export const maxDepth = 32;
const bodyWithinMs = 30_000;

export async function readJson(payload: IncomingMessage, limit: number): Promise<unknown> {
  refuseEncoding(payload.headers, 'JSON');
  const bytes = await collect(payload, limit);
  return bytes.length === 0 ? undefined : parseJson(bytes);
}

export function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw malformed('it is not UTF-8');
  if (depthOf(bytes) > maxDepth) throw malformed(`it is nested deeper than ${maxDepth} levels`);
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw malformed(error instanceof Error ? error.message : 'it is not JSON');
  }
  if (text.includes('\\u') || text.includes('__proto__')) refuseTraps(value);
  return value;
}

function malformed(reason: string): PerchError {
  return new PerchError('malformed_body', `The body is no valid JSON: ${reason}.`, { reason });
}

async function collect(payload: IncomingMessage, limit: number): Promise<Buffer> {
  const tooLarge = () =>
    new PerchError('body_too_large', `The body is larger than ${limit} bytes.`, { limit_bytes: limit });
  if (Number(payload.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    const settle = (error?: PerchError) => {
      clearTimeout(late);
      payload.off('data', take).off('end', end).off('error', broken).off('close', broken);
      if (error) reject(error);
      else resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks));
    };
    const take = (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) settle(tooLarge());
      else chunks.push(chunk);
    };
    const end = () => settle();
    const broken = () => settle(malformed('it broke off'));
    const late = setTimeout(
      () => settle(new PerchError('request_timeout', 'The body did not come within 30 s.', {})),
      bodyWithinMs,
    );
    payload.on('data', take).once('end', end).once('error', broken).once('close', broken);
  });
}

/** Deepest nesting of brackets outside strings, found without parsing. */
function depthOf(bytes: Buffer): number {
  let depth = 0;
  let deepest = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === 0x22) {
      i = endOfString(bytes, i + 1);
    } else if (byte === 0x7b || byte === 0x5b) {
      depth++;
      if (depth > deepest) deepest = depth;
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return deepest;
}

function endOfString(bytes: Buffer, from: number): number {
  for (let end = bytes.indexOf(0x22, from); end >= 0; end = bytes.indexOf(0x22, end + 1)) {
    let slashes = 0;
    while (bytes[end - 1 - slashes] === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return bytes.length;
}

/** A half of a surrogate pair is no character, and `__proto__` is no name. */
function refuseTraps(value: unknown): void {
  if (typeof value === 'string' && !value.isWellFormed()) {
    throw malformed('a string in it has half of a surrogate pair');
  }
  if (value === null || typeof value !== 'object') return;
  for (const [name, inner] of Object.entries(value)) {
    if (name === '__proto__') throw malformed('__proto__ is no name');
    refuseTraps(name);
    refuseTraps(inner);
  }
}
