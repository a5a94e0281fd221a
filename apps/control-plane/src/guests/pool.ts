import type { Guest } from './guest.ts';

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

  constructor(connect: Connect, port: number) {
    this.#connect = connect;
    this.#port = port;
  }

  of(life: GuestLife): Guest {
    const known = this.#guests.get(life);
    if (known) return known;
    const { address } = life;
    if (life.signal.aborted || address === null) throw life.refusal();
    const guest = this.#connect({
      address,
      port: this.#port,
      accessToken: life.accessToken,
      sandboxId: life.id,
    });
    this.#guests.set(life, guest);
    life.signal.addEventListener('abort', () => this.#drop(life), { once: true });
    return guest;
  }

  [Symbol.dispose](): void {
    for (const life of [...this.#guests.keys()]) this.#drop(life);
  }

  #drop(life: GuestLife): void {
    void this.#guests.get(life)?.close();
    this.#guests.delete(life);
  }
}
