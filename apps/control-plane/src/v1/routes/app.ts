import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify';
import { Type } from 'typebox';

/** A server whose handlers get the types of their schemas. */
export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** An id of any form: one that cannot be is answered as unknown. */
export const IdParams = Type.Object({ id: Type.String({ description: 'Sandbox id.' }) });

/** Errors that every route of one sandbox may answer with. */
export const sandboxErrors = {
  404: 'No such sandbox.',
  409:
    'The sandbox is not running, or failed; the message names its status. A sandbox that is paused and has ' +
    '`auto_resume` is resumed first.',
  500: 'It could not be resumed: resume_failed, snapshot_damaged. It is still paused.',
  502: 'The guest agent does not answer.',
  503: 'The host agent or the database does not answer, or the host has no room to resume it.',
} as const;

/** No body, or none of any length, is as good as an empty object. `null` is a body, and of the wrong type. */
export async function emptyBody(request: FastifyRequest): Promise<void> {
  if (request.body === undefined) request.body = {};
}
