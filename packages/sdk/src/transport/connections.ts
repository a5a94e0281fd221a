import { Agent, type AgentOptions } from 'node:http';
import type { Socket } from 'node:net';

/** Shorter than any server keeps them: a request must not meet a connection that closes. */
const idleMs = 4000;

/** Of those that are idle the oldest goes first, which is the order in which Node looks for those that have ended. */
export const keeping: AgentOptions = { keepAlive: true, timeout: idleMs, scheduling: 'fifo' };

/** Connections that are kept for further requests. */
export class Connections<A extends Agent> {
  readonly #agent: A;
  readonly #idleSince = new WeakMap<Socket, number>();

  constructor(agent: A) {
    this.#agent = agent;
    agent.on('free', (socket: Socket) => this.#idleSince.set(socket, performance.now()));
  }

  /** For a request that is made at once. Timers alone would be late in a process that was busy. */
  fresh(): A {
    const limit = performance.now() - idleMs;
    for (const socket of Object.values(this.#agent.freeSockets).flat()) {
      if (socket && (this.#idleSince.get(socket) ?? 0) < limit) socket.destroy();
    }
    return this.#agent;
  }
}

export const connections = new Connections(new Agent(keeping));
