/** Where Perch listens, and whether it does. */
import { createServer } from 'node:net';
import type { Health } from '@perch/protocol';
import { CliError } from '../errors.ts';

/** A host that is full of sandboxes is as well as any. */
export async function healthy(listen: string): Promise<boolean> {
  try {
    const answer = await fetch(`http://${listen}/health`, { signal: AbortSignal.timeout(2000) });
    const { status } = (await answer.json()) as Partial<Health>;
    return status === 'ok' || status === 'full';
  } catch {
    return false;
  }
}

/** Two daemons of different owners on one address would answer each other's clients. */
export async function requireFreeAddress(listen: string): Promise<void> {
  const url = URL.parse(`http://${listen}`);
  if (!url || !/:\d+$/.test(listen)) {
    throw new CliError(
      `PERCH_LISTEN is ${listen}.`,
      'Write it as ADDRESS:PORT, for example PERCH_LISTEN=127.0.0.1:7070.',
    );
  }
  const probe = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  probe.once('error', reject);
  probe.listen({ host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) }, resolve);
  try {
    await promise;
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'EADDRINUSE' ? 'is in use' : 'cannot be listened on';
    throw new CliError(
      `The address ${listen} ${why}.`,
      'Stop what listens there, or choose another, for example PERCH_LISTEN=127.0.0.1:7071.',
      { cause },
    );
  } finally {
    probe.close();
  }
}
