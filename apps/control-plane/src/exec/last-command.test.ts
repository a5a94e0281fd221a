import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createGuestClient } from '@perch/guest-client';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { GuestPool } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { askGuests } from './last-command.ts';

const life = { id: 'sb0' } as Life;

/** The answer of a guest whose agent would listen at this port. */
async function asked(port: number, idleTimeoutMs: number) {
  const guest = createGuestClient({
    ...{ address: '127.0.0.1', port, accessToken: 'token', sandboxId: 'sb0', idleTimeoutMs },
  });
  const guests = { of: () => guest } as unknown as GuestPool;
  try {
    return await askGuests(guests, new AbortController().signal, pino({ level: 'silent' }))(life);
  } finally {
    await guest.close();
  }
}

test('an agent that takes calls and never answers is silent; of one that is gone no command is left', async () => {
  const server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await asked(port, 50)).toBe('silent');
  server.close();
  await once(server, 'close');
  expect(await asked(port, 30_000)).toBe(undefined);
});
