import { randomBytes } from 'node:crypto';
import type { Caller } from './keys.ts';

interface Ticket {
  sandboxId: string;
  caller: Caller;
  expiresAt: number;
}

const lifetimeMs = 60_000;
const maxTickets = 10_000;

/**
 * One-use tickets for clients that cannot send a header, such as a browser's WebSocket. They live in memory:
 * a restart of perchd ends them, and the client asks for another.
 */
export class Tickets {
  readonly #tickets = new Map<string, Ticket>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  issue(sandboxId: string, caller: Caller): { ticket: string; expiresAt: Date } {
    this.#makeRoom();
    const ticket = randomBytes(32).toString('base64url');
    const expiresAt = this.#now() + lifetimeMs;
    this.#tickets.set(ticket, { sandboxId, caller, expiresAt });
    return { ticket, expiresAt: new Date(expiresAt) };
  }

  /** The caller of a ticket that is good for this sandbox. Whatever the answer, it is used up. */
  redeem(ticket: string, sandboxId: string): Caller | undefined {
    const found = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    if (!found || found.sandboxId !== sandboxId || found.expiresAt <= this.#now()) return undefined;
    return found.caller;
  }

  /** Tickets are held in the order of their end, the oldest first. */
  #makeRoom(): void {
    for (const [ticket, { expiresAt }] of this.#tickets) {
      if (expiresAt > this.#now() && this.#tickets.size < maxTickets) return;
      this.#tickets.delete(ticket);
    }
  }
}
