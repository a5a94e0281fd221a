/** Calls that the control plane may not make, though it may connect: they name files that root reads. */
import { PerchError } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import { peerOf } from '../linux/index.ts';

/** @throws PerchError root_only */
export async function onlyRoot({ raw }: FastifyRequest): Promise<void> {
  const { uid } = peerOf(raw.socket);
  if (uid === 0) return;
  throw new PerchError('root_only', `Only root may ask for this, and user ${uid} did.`, { uid });
}
