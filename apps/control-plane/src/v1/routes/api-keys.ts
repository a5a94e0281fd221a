import { type ApiKey, ApiKeyList, CreateApiKey, NewApiKey } from '@perch/protocol';
import { Type } from 'typebox';
import type { KeyInfo } from '../../auth/index.ts';
import type { Services } from '../../http/index.ts';
import type { App } from './app.ts';

const tags = ['api keys'];
const Params = Type.Object({ id: Type.String({ description: 'Id of the key, not the key.' }) });

export function addApiKeyRoutes(app: App, { keys }: Services): void {
  app.route({
    method: 'GET',
    url: '/v1/api-keys',
    schema: { summary: 'List API keys', tags, response: { 200: ApiKeyList } as object },
    handler: async () => ({ items: keys.list().map(toApiKey) }),
  });

  app.route({
    method: 'POST',
    url: '/v1/api-keys',
    schema: {
      summary: 'Make an API key',
      description: 'The key is in this answer and never again.',
      tags,
      body: CreateApiKey,
      response: { 201: NewApiKey, 400: 'The name is wrong.' } as object,
    },
    async handler(request, reply) {
      const { info, key } = await keys.create(request.body.name);
      return reply.code(201).send({ ...toApiKey(info), key });
    },
  });

  app.route({
    method: 'DELETE',
    url: '/v1/api-keys/:id',
    schema: {
      summary: 'Delete an API key',
      description: 'It stops working at once. The last key stays.',
      tags,
      params: Params,
      response: { 204: 'It is gone.', 404: 'No such key.', 409: 'It is the last one.' } as object,
    },
    async handler(request, reply) {
      await keys.remove(request.params.id);
      return reply.code(204).send();
    },
  });
}

function toApiKey({ id, name, prefix, createdAt, lastUsedAt }: KeyInfo): ApiKey {
  return {
    id,
    name,
    prefix,
    created_at: createdAt.toISOString(),
    last_used_at: lastUsedAt?.toISOString() ?? null,
  };
}
