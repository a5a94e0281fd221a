import { once } from 'node:events';
import { constants } from 'node:http2';
import { connect } from 'node:tls';
import { eventually } from './index.ts';

/** Sends what Node's own client refuses to: headers as they are given. */
export class RawH2 implements AsyncDisposable {
  readonly #socket;
  #received = Buffer.alloc(0);

  private constructor(socket: ReturnType<typeof connect>) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    socket.on('error', () => {});
  }

  static async open(at: number, trusted: Buffer): Promise<RawH2> {
    const socket = connect({
      ...{ port: at, host: '127.0.0.1', ca: trusted, servername: 'localhost', ALPNProtocols: ['h2'] },
    });
    await once(socket, 'secureConnect');
    const raw = new RawH2(socket);
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    raw.#frame(4, 0, 0, Buffer.alloc(0));
    return raw;
  }

  request(
    authority: string,
    { body, ...headers }: Record<string, string>,
    more: [string, string][] = [],
  ): void {
    const pseudo = { ':method': 'POST', ':scheme': 'https', ':path': '/', ':authority': authority };
    const all = [...Object.entries({ ...pseudo, ...headers }), ...more];
    const block = Buffer.concat(all.map(([name, value]) => literal(name, value)));
    for (let at = 0; at < block.length; at += 16_384) {
      const last = at + 16_384 >= block.length ? 4 : 0;
      const end = at === 0 && body === undefined ? 1 : 0;
      this.#frame(at === 0 ? 1 : 9, last | end, 1, block.subarray(at, at + 16_384));
    }
    if (body !== undefined) this.#frame(0, 1, 1, Buffer.from(body));
  }

  /** Opens a stream, and resets it at once. */
  opened(authority: string, id: number): void {
    const pseudo = { ':method': 'GET', ':scheme': 'https', ':path': '/', ':authority': authority };
    const block = Object.entries(pseudo).map(([name, value]) => literal(name, value));
    this.#frame(1, 5, id, Buffer.concat(block));
    this.#frame(3, 0, id, Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL]));
  }

  ended(): Promise<boolean> {
    return eventually(() => this.#socket.destroyed || this.#socket.readableEnded);
  }

  /** The code by which the stream, or else the connection, was ended. */
  reset(): Promise<number> {
    return eventually(() => {
      for (let at = 0; at + 9 <= this.#received.length; ) {
        const length = this.#received.readUIntBE(at, 3);
        const type = this.#received[at + 3];
        if (type === 3) return this.#received.readUInt32BE(at + 9);
        if (type === 7) return this.#received.readUInt32BE(at + 13);
        at += 9 + length;
      }
      return undefined;
    });
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

/** RFC 7541, 6.2.2, of names and values of less than 127 bytes. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}
