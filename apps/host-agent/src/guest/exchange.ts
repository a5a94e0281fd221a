/**
 * One request to a guest agent and its answer, on a connection of its own. By Node's HTTP client: the API
 * has loaded what it consists of, and another one would be kept in memory for two short questions a sandbox.
 */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from 'node:http';
import { createConnection, type Socket } from 'node:net';

export interface Question {
  method: 'GET' | 'POST';
  path: string;
  headers?: Record<string, string>;
  /** A function is asked once there is a connection, for what must not be older than the question. */
  body?: string | Buffer | (() => string);
  /** Milliseconds from the beginning until there is a connection; from then on until the answer is whole. */
  connectMs: number;
  answerMs: number;
  signal: AbortSignal;
}

export interface Answer {
  status: number;
  text: string;
}

/** Of an answer's head, and of its body. */
const maxAnswerBytes = 4096;

/** Nobody listens, or nobody is there yet: nothing was sent. */
export class Unconnected extends Error {
  override readonly name = 'Unconnected';
}

/** @throws Unconnected; the reason of `signal`; Error when the question was sent and no answer that is whole came back */
export async function exchange(host: string, port: number, question: Question): Promise<Answer> {
  const { connectMs, answerMs, signal } = question;
  signal.throwIfAborted();
  const socket = createConnection({ host, port, noDelay: true });
  // The awaited promise tells its outcome.
  socket.on('error', () => {});
  try {
    await connected(socket, AbortSignal.any([signal, AbortSignal.timeout(connectMs)]));
    const within = AbortSignal.timeout(answerMs);
    return await ask(socket, { ...question, host, port, signal: AbortSignal.any([signal, within]) }).catch(
      (cause) => {
        if (!within.aborted) throw cause;
        throw new Error(`The guest agent gave no answer within ${answerMs} ms.`, { cause });
      },
    );
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    socket.destroy();
  }
}

async function connected(socket: Socket, signal: AbortSignal): Promise<void> {
  try {
    await once(socket, 'connect', { signal });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (!signal.aborted && code !== 'ECONNREFUSED' && code !== 'EHOSTUNREACH') throw cause;
    throw new Unconnected('The guest agent takes no connection.', { cause });
  }
}

async function ask(socket: Socket, { body, ...options }: Question & RequestOptions): Promise<Answer> {
  const call = request({ ...options, maxHeaderSize: maxAnswerBytes, createConnection: () => socket });
  const answer = await answerTo(call.end(typeof body === 'function' ? body() : body));
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > maxAnswerBytes) throw new Error('The guest agent answers with too much.');
    parts.push(part);
  }
  return { status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString() };
}

function answerTo(call: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  call.once('response', resolve);
  // Stays, since an error may follow an answer.
  call.on('error', reject);
  // All that comes of an answer which switches to another protocol.
  call.once('close', () => reject(new Error('The guest agent gave no answer.')));
  return promise;
}
