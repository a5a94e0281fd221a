/** A program in the sandbox that takes and gives bytes over plain TCP, and our connection to it. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { ExecStream, Perch } from '../packages/sdk/src/index.ts';

const port = 5001;

/** Commands are 9 bytes, `s` (take) or `g` (give) and a count; what was taken is answered by one byte. */
const program = `
import socket, struct
server = socket.create_server(('0.0.0.0', ${port}))
print('ready', flush=True)
peer, _ = server.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
buffer = memoryview(bytearray(1 << 20))
while command := peer.recv(9, socket.MSG_WAITALL):
    kind, left = struct.unpack('>cQ', command)
    while left:
        piece = buffer[:min(left, len(buffer))]
        left -= peer.send(piece) if kind == b'g' else peer.recv_into(piece)
    if kind == b's':
        peer.send(b'.')
`;

export class TcpPeer implements AsyncDisposable {
  readonly #process: ExecStream;
  readonly #socket: Socket;

  private constructor(process: ExecStream, socket: Socket) {
    this.#process = process;
    this.#socket = socket;
  }

  static async start(perch: Perch, sandbox: string): Promise<TcpPeer> {
    const { host_ip } = await perch.sandboxes.get(sandbox);
    if (host_ip === null) throw new Error('The sandbox has no address.');
    const process = await perch.sandboxes.execStream(sandbox, { cmd: 'python3', args: ['-c', program] });
    const events = process[Symbol.asyncIterator]();
    const first = await events.next();
    if (first.value?.type !== 'stdout') throw new Error('The peer did not start.');
    const socket = connect({ host: host_ip, port, noDelay: true });
    await once(socket, 'connect');
    return new TcpPeer(process, socket);
  }

  /** Resolves when all of it has been taken. */
  async send(data: Buffer): Promise<void> {
    const taken = once(this.#socket, 'data');
    this.#socket.write(command('s', data.length));
    this.#socket.write(data);
    await taken;
  }

  async receive(bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let left = bytes;
    const take = (chunk: Buffer) => {
      left -= chunk.length;
      if (left <= 0) resolve();
    };
    this.#socket.on('data', take);
    this.#socket.write(command('g', bytes));
    await promise;
    this.#socket.off('data', take);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.#process.stop();
    await this.#process[Symbol.asyncDispose]();
  }
}

function command(kind: 's' | 'g', count: number): Buffer {
  const bytes = Buffer.alloc(9, kind);
  bytes.writeBigUInt64BE(BigInt(count), 1);
  return bytes;
}
