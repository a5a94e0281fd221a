/** Tells TLS from plain HTTP by the first byte of a connection, and HTTP/2 from HTTP/1.1 by ALPN. */
import type { RequestListener, Server } from 'node:http';
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type SecureContextOptions, type TLSSocket } from 'node:tls';
import type { CertificateFile } from './certificate-file.ts';
import { H2 } from './h2.ts';

/** First byte of a TLS connection: a record of the handshake (RFC 8446, 5.1). */
const handshakeRecord = 0x16;
/** An alert, `handshake_failure`: what a TLS client understands where no certificate is. */
const noCertificate = Buffer.from([0x15, 3, 3, 0, 2, 2, 40]);

export interface ListenerOptions {
  /** Serves HTTP/1.1, and listens. Its connections come here first. */
  http1: Server;
  onRequest: RequestListener;
  certificate: CertificateFile;
  /** Time in which a connection has to say something, and one of HTTP/2 to ask for something, ms. */
  beginWithinMs: number;
  /** Time for a handshake of TLS, ms. */
  handshakeWithinMs: number;
  /** Time for which a connection of HTTP/2 may ask for nothing more, ms. */
  idleMs: number;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #toHttp1: (socket: Socket) => void;
  readonly #tls;
  readonly #h2: H2;
  readonly #others: NetServer[] = [];
  /** Connections that have said nothing yet, also nothing after their handshake, and those that were refused. */
  readonly #silent = new Set<Socket>();
  /** Connections in their handshake, by their peer. */
  readonly #shaking = new Map<string, Socket>();
  #inUse: SecureContextOptions | undefined;
  #closing = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    const { http1 } = options;
    this.#tls = createTlsServer({
      ALPNProtocols: ['h2', 'http/1.1'],
      handshakeTimeout: options.handshakeWithinMs,
    });
    const own = http1.listeners('connection') as ((socket: Socket) => void)[];
    this.#toHttp1 = (socket) => {
      for (const listener of own) listener.call(http1, socket);
    };
    http1.removeAllListeners('connection');
    http1.on('connection', this.#meet);
    this.#h2 = new H2(options.onRequest, options);
    this.#tls.on('secureConnection', (socket) => {
      this.#shaking.delete(peerOf(socket));
      if (this.#closing) socket.destroy();
      else if (socket.alpnProtocol === 'h2') this.#h2.take(socket);
      else this.#await(socket, () => this.#toHttp1(socket));
    });
    this.#tls.on('tlsClientError', (_error, socket) => socket.destroy());
  }

  /** Listens on the port of the main address at another one, too. @throws Error when that cannot be listened on */
  async alsoListen(host: string): Promise<void> {
    const { port } = this.#options.http1.address() as AddressInfo;
    const other = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, this.#meet);
    await new Promise<void>((resolve, reject) => {
      other.once('error', reject).listen({ host, port, ipv6Only: true }, () => {
        // One that could not be accepted: the next may be.
        other.off('error', reject).on('error', () => {});
        resolve();
      });
    });
    this.#others.push(other);
  }

  /** Takes no new connections, and ends those that ask for nothing. What is asked is still answered. */
  close(): void {
    this.#closing = true;
    for (const other of this.#others) other.close();
    for (const socket of [...this.#silent, ...this.#shaking.values()]) socket.destroy();
    this.#h2.close();
  }

  /** Ends the connections that the server of HTTP/1.1 does not know. */
  cut(): void {
    this.#h2.cut();
  }

  readonly #meet = (socket: Socket): void => {
    // One that was accepted while the server stops.
    if (this.#closing) {
      socket.destroy();
      return;
    }
    this.#await(socket, (first) => {
      if (first === handshakeRecord) this.#toTls(socket);
      else this.#toHttp1(socket);
    });
  };

  /** @param go gets the first byte, which is still to be read */
  #await(socket: Socket, go: (first: number | undefined) => void): void {
    const end = () => void socket.destroy();
    const forget = () => this.#silent.delete(socket);
    const look = () => {
      const bytes: Buffer | null = socket.read();
      if (bytes === null) return;
      forget();
      socket.setTimeout(0).off('timeout', end).off('readable', look);
      socket.off('end', end).off('error', end).off('close', forget);
      socket.unshift(bytes);
      go(bytes[0]);
    };
    this.#silent.add(socket);
    socket.setTimeout(this.#options.beginWithinMs, end);
    socket.on('readable', look).once('end', end).on('error', end).once('close', forget);
  }

  #toTls(socket: Socket): void {
    const certificate = this.#options.certificate.get();
    if (!certificate) {
      this.#refuse(socket);
      return;
    }
    if (certificate !== this.#inUse) {
      this.#tls.setSecureContext(certificate);
      this.#inUse = certificate;
    }
    const peer = peerOf(socket);
    this.#shaking.set(peer, socket);
    socket.on('error', () => socket.destroy()).once('close', () => this.#shaking.delete(peer));
    this.#tls.emit('connection', socket);
  }

  /** Reads on for a while: a client is told more surely than by a reset. */
  #refuse(socket: Socket): void {
    this.#silent.add(socket);
    const timer = setTimeout(() => socket.destroy(), this.#options.handshakeWithinMs);
    socket
      .on('error', () => {})
      .once('close', () => {
        clearTimeout(timer);
        this.#silent.delete(socket);
      });
    socket.end(noCertificate);
    socket.resume();
  }
}

function peerOf({ remoteAddress, remotePort, localAddress }: Socket | TLSSocket): string {
  return [remoteAddress, remotePort, localAddress].join(' ');
}
