/** One Firecracker, as its API socket answers. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { quoted } from '@perch/node-kit';
import { Client } from 'undici';
import { connectWhenListening, peerOf } from '../../linux/index.ts';
import type { ApiRequest } from './requests.ts';

export interface ApiAddress {
  /** The directory of the socket, outside of the jail. */
  dir: string;
  name: string;
  /** Who must listen there. */
  pid: number;
  uid: number;
}

/** Firecracker refused a request. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
}

/** An answer longer than this is none of Firecracker's, bytes. */
const maxAnswerBytes = 64 * 1024;

export class FirecrackerApi {
  readonly #client: Client;

  private constructor(client: Client) {
    this.#client = client;
  }

  /**
   * Waits until Firecracker listens. Who listens is checked before a byte is sent, since what is in the jail could have
   * put another socket there. The directory is opened first, so that the length of its path does not matter.
   * @throws what `signal` was aborted with; Error when somebody else listens
   */
  static async open(at: ApiAddress, signal: AbortSignal): Promise<FirecrackerApi> {
    (await connect(at, signal)).destroy();
    const client = new Client('http://localhost', {
      // A pipelined request would wait for the one before it.
      pipelining: 1,
      connect: (_options, take) => {
        connect(at, AbortSignal.timeout(connectTimeoutMs)).then(
          (socket) => take(null, socket as never),
          (error: Error) => take(error, null),
        );
      },
    });
    return new FirecrackerApi(client);
  }

  /** @returns the answer's JSON, `{}` where it has none @throws ApiError with what Firecracker says against it */
  async send({ method, path, body }: ApiRequest, timeoutMs: number): Promise<Record<string, unknown>> {
    const signal = AbortSignal.timeout(timeoutMs);
    const answer = await this.#client.request({
      ...{ method, path, signal },
      headers: { accept: 'application/json', ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > maxAnswerBytes) throw new ApiError(`The answer to ${method} ${path} is too long`);
      chunks.push(chunk);
    }
    const json = parse(Buffer.concat(chunks));
    if (answer.statusCode < 300) return json;
    const why =
      typeof json.fault_message === 'string' ? quoted(json.fault_message) : `status ${answer.statusCode}`;
    throw new ApiError(`${method} ${path}: ${why}`);
  }

  close(): void {
    void this.#client.destroy().catch(() => {});
  }
}

const connectTimeoutMs = 5000;

async function connect({ dir, name, pid, uid }: ApiAddress, signal: AbortSignal): Promise<Socket> {
  const opened = await open(dir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const socket = await connectWhenListening(`/proc/self/fd/${opened.fd}/${name}`, signal);
    const peer = peerOf(socket);
    if (peer.pid === pid && peer.uid === uid) return socket;
    socket.destroy();
    throw new Error(`Process ${peer.pid} of user ${peer.uid} listens in ${dir}, not the VM monitor`);
  } finally {
    await opened.close();
  }
}

function parse(bytes: Buffer): Record<string, unknown> {
  if (bytes.length === 0) return {};
  try {
    const json: unknown = JSON.parse(bytes.toString());
    if (typeof json === 'object' && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new ApiError('An answer is no JSON object');
}
