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

export function templateNotFound(template: string): PerchError {
  return new PerchError('template_not_found', `Template "${template.slice(0, 128)}" was not found.`, {
    template,
  });
}

export function notFound(id: string): PerchError {
  return new PerchError('sandbox_not_found', `Sandbox "${id.slice(0, 64)}" was not found.`, { id });
}

/** The domain by which the caller finds ports: that of where clients find Perch, or else by which it came. */
export function callersDomain(request: FastifyRequest, publicUrl: URL | undefined): string {
  return publicUrl?.host ?? domainOf(request.headers.host, request.socket.localPort);
}
