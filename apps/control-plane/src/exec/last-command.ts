import { hasCode } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';
import type { Logger } from 'pino';
import type { GuestPool } from '../guests/index.ts';
import type { LastCommand } from '../sandboxes/index.ts';
import { lastUse } from './commands.ts';

/** Asks the guest agent. An agent that is gone runs nothing. */
export function askGuests(guests: GuestPool, shutdown: AbortSignal, log: Logger): LastCommand {
  return async (life) => {
    try {
      return lastUse(await guests.of(life).commands(), new Date());
    } catch (error) {
      // The pool of connections goes before the sandboxes do, which says nothing of their guests.
      shutdown.throwIfAborted();
      log.warn({ sandbox: life.id, err: error }, 'a guest whose time is over does not say what it runs');
      return isSilent(error) ? 'silent' : undefined;
    }
  };
}

/** Not where nobody listens: then the agent has ended, and its commands with it. */
function isSilent(error: unknown): boolean {
  if (!(error instanceof PerchError) || error.code !== 'guest_unavailable') return false;
  return !hasCode(error.cause, 'ECONNREFUSED');
}
