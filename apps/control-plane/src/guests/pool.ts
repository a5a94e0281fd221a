import type { Life } from '../sandboxes/index.ts';
import type { Guest } from './guest.ts';

export interface GuestAddress {
  address: string;
  port: number;
  accessToken: string;
  sandboxId: string;
}

export type Connect = (guest: GuestAddress) => Guest;

/** One client, with its kept-alive connections, for each life of a sandbox. It is closed when the life ends. */
export class GuestPool implements Disposable {
  readonly #connect: Connect;
  readonly #port: number;
  readonly #guests = new Map<Life, Guest>();

  constructor(connect: Connect, port: number) {
    this.#connect = connect;
    this.#port = port;
  }

  of(life: Life): Guest {
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

  get size(): number {
    return this.#guests.size;
  }

  [Symbol.dispose](): void {
    for (const life of [...this.#guests.keys()]) this.#drop(life);
  }

  #drop(life: Life): void {
    void this.#guests.get(life)?.close();
    this.#guests.delete(life);
  }
}
