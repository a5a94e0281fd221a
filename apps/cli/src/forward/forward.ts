import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { drainedOrClosed } from '@perch/node-kit';
import type { Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';
import type { Mapping } from './mapping.ts';

type PortStream = Awaited<ReturnType<Perch['sandboxes']['ports']['connect']>>;

export interface Forward extends AsyncDisposable {
  /** `127.0.0.1:8080` */
  address: string;
  port: number;
}

/**
 * Listens, and leads each connection to the port of the sandbox. Whoever disposes of it ends them.
 * @param host address of this machine
 * @param failed told when a connection could not be made, or broke
 * @throws CliError when the address cannot be listened on
 */
export async function forward(
  perch: Perch,
  id: string,
  { local, port }: Mapping,
  host: string,
  failed: (error: unknown) => void,
): Promise<Forward> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    lead(perch, id, port, socket).catch((error: unknown) => {
      if (server.listening) failed(error);
    });
  });
  server.listen({ host, port: local });
  try {
    await once(server, 'listening');
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'EADDRINUSE' ? 'is in use' : 'cannot be listened on';
    throw new CliError(`${nameOf(host, local)} ${why}.`, 'Choose another, such as 0 for a free one.', {
      cause,
    });
  }
  return {
    address: nameOf(host, (server.address() as AddressInfo).port),
    port,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function nameOf(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Resolves when both halves have ended. */
async function lead(perch: Perch, id: string, port: number, socket: Socket): Promise<void> {
  // A peer that leaves ends its connection to the sandbox below.
  socket.on('error', () => socket.destroy());
  let stream: PortStream | undefined;
  try {
    stream = await perch.sandboxes.ports.connect(id, port);
    const opened = stream;
    socket.once('close', () => opened.close());
    await Promise.all([up(socket, opened), down(opened, socket)]);
  } catch (error) {
    // The peer is told by a reset; that it left itself is no failure.
    const left = socket.destroyed;
    socket.resetAndDestroy();
    if (!left) throw error;
  } finally {
    stream?.close();
  }
}

async function up(socket: Socket, stream: PortStream): Promise<void> {
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) await stream.write(chunk as Buffer);
  await stream.end();
}

async function down(stream: PortStream, socket: Socket): Promise<void> {
  for await (const chunk of stream) {
    if (!socket.write(chunk)) await drainedOrClosed(socket);
  }
  socket.end();
}
