import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Logger } from 'pino';
import { answer, type Zone } from './answer.ts';

/** Answers questions of DNS over UDP. */
export class NameServer implements AsyncDisposable {
  readonly #socket;

  private constructor(host: string, zone: () => Zone, log: Logger) {
    this.#socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    this.#socket.on('message', (datagram, { address, port }) => {
      try {
        const said = answer(datagram, zone());
        // Who asked asks again when an answer is lost.
        if (said) this.#socket.send(said, port, address, () => {});
      } catch (error) {
        // A datagram may say that it comes from port 0, to which nothing can be sent.
        log.warn({ err: error }, 'a question of DNS was not answered');
      }
    });
    this.#socket.on('error', (error) => log.warn({ err: error }, 'the DNS responder had an error'));
  }

  /** @throws Error when the address cannot be listened on */
  static async start(
    { host, port }: { host: string; port: number },
    zone: () => Zone,
    log: Logger,
  ): Promise<NameServer> {
    const server = new NameServer(host, zone, log);
    const bound = once(server.#socket, 'listening');
    server.#socket.bind(port, host);
    await bound;
    return server;
  }

  get port(): number {
    return this.#socket.address().port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    await closed;
  }
}
