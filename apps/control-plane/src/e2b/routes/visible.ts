import { PerchError } from '@perch/protocol';
import type { FastifyRequest } from 'fastify';
import type { SandboxRow } from '../../database/index.ts';
import type { SandboxService } from '../../sandboxes/index.ts';
import { domainOf } from '../domain.ts';
import { stateOf } from '../view.ts';

export interface OfSandbox {
  Params: { id: string };
}

/** @throws PerchError sandbox_not_found, also for one that is starting or at its end: E2B's clients know two states */
export async function visible(sandboxes: SandboxService, id: string): Promise<SandboxRow> {
  const row = await sandboxes.row(id);
  if (stateOf(row.status)) return row;
  throw notFound(id);
}

export function notFound(id: string): PerchError {
  return new PerchError('sandbox_not_found', `Sandbox "${id.slice(0, 64)}" was not found.`, { id });
}

export function callersDomain(request: FastifyRequest): string {
  return domainOf(request.headers.host, request.socket.localPort);
}
