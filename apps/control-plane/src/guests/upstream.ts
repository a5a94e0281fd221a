/** A plain way to the ports of one life of a sandbox. */
import { Agent, type ClientRequest, type RequestOptions, request } from 'node:http';
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import type { Duplex } from 'node:stream';

/** Idle connections to the guest agent go before the agent ends them, which it does after 300 s. */
const idleMs = 60_000;
const mostIdle = 64;

/** Every connection ends when the life does. */
export class Upstream implements Disposable {
  readonly #address: string;
  readonly #agentPort: number;
  readonly #sockets = new Set<Socket>();
  readonly #kept: Agent;
  readonly #single: Agent;

  /** @param agentPort of the guest agent, whose connections are used again; a program may close its own at any time */
  constructor(address: string, agentPort: number) {
    this.#address = address;
    this.#agentPort = agentPort;
    const open = (options: TcpNetConnectOpts) => this.#track(connect(options));
    this.#kept = new OpeningAgent(open, { keepAlive: true, timeout: idleMs, maxFreeSockets: mostIdle });
    this.#single = new OpeningAgent(open, { keepAlive: false });
  }

  /** Connections that are open. */
  get open(): number {
    return this.#sockets.size;
  }

  request(port: number, options: RequestOptions): ClientRequest {
    const agent = port === this.#agentPort ? this.#kept : this.#single;
    return request({ ...options, host: this.#address, port, agent, setHost: false });
  }

  /** A connection of which either side may end its half first. */
  connect(port: number): Socket {
    return this.#track(connect({ host: this.#address, port, allowHalfOpen: true, noDelay: true }));
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #track(socket: Socket): Socket {
    this.#sockets.add(socket);
    return socket.once('close', () => this.#sockets.delete(socket));
  }
}

class OpeningAgent extends Agent {
  readonly #open: (options: TcpNetConnectOpts) => Socket;

  constructor(open: (options: TcpNetConnectOpts) => Socket, options: ConstructorParameters<typeof Agent>[0]) {
    super(options);
    this.#open = open;
  }

  override createConnection(options: object): Duplex {
    return this.#open({ ...(options as TcpNetConnectOpts), noDelay: true });
  }
}
