import type { Guest } from './guest.ts';
import { Upstream } from './upstream.ts';

export interface GuestAddress {
  address: string;
  port: number;
  accessToken: string;
  sandboxId: string;
}

/** A life of a sandbox, as far as its guest is concerned. */
export interface GuestLife {
  readonly id: string;
  readonly accessToken: string;
  readonly address: string | null;
  /** Aborts when the life ends. */
  readonly signal: AbortSignal;
  /** Why there is no guest. */
  refusal(): Error;
}

export type Connect = (guest: GuestAddress) => Guest;

/** One client, with its kept-alive connections, for each life of a sandbox. It is closed when the life ends. */
export class GuestPool implements Disposable {
  readonly #connect: Connect;
  readonly #port: number;
  readonly #guests = new Map<GuestLife, Guest>();
  readonly #upstreams = new Map<GuestLife, Upstream>();

  constructor(connect: Connect, port: number) {
    this.#connect = connect;
    this.#port = port;
  }

  of(life: GuestLife): Guest {
    const known = this.#guests.get(life);
    if (known) return known;
    const guest = this.#connect({
      address: addressOf(life),
      port: this.#port,
      accessToken: life.accessToken,
      sandboxId: life.id,
    });
    this.#guests.set(life, guest);
    life.signal.addEventListener('abort', () => this.#drop(life), { once: true });
    return guest;
  }

  /** Port of the guest agent. */
  get agentPort(): number {
    return this.#port;
  }

  /** The plain way to any port of the guest. @throws Error why there is no guest */
  upstream(life: GuestLife): Upstream {
    const known = this.#upstreams.get(life);
    if (known) return known;
    const upstream = new Upstream(addressOf(life), this.#port);
    this.#upstreams.set(life, upstream);
    life.signal.addEventListener('abort', () => this.#dropUpstream(life), { once: true });
    return upstream;
  }

  [Symbol.dispose](): void {
    for (const life of [...this.#guests.keys()]) this.#drop(life);
    for (const life of [...this.#upstreams.keys()]) this.#dropUpstream(life);
  }

  #dropUpstream(life: GuestLife): void {
    this.#upstreams.get(life)?.[Symbol.dispose]();
    this.#upstreams.delete(life);
  }

  #drop(life: GuestLife): void {
    void this.#guests.get(life)?.close();
    this.#guests.delete(life);
  }
}

function addressOf(life: GuestLife): string {
  if (life.signal.aborted || life.address === null) throw life.refusal();
  return life.address;
}
