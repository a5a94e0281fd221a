/** What people open in a browser. A page needs no key to load; what it asks the API for does. */
import type { FastifyReply } from 'fastify';
import { type OpenApi, renderPage } from '../../docs/index.ts';
import { loadTestPage, type Page } from '../../pages/index.ts';
import type { App } from './app.ts';

const shared = {
  tags: ['platform'],
  response: { 200: { type: 'string', contentType: 'text/html', description: 'A page.' } } as object,
};

export async function addPageRoutes(app: App, openApi: OpenApi): Promise<void> {
  let docs: Page | undefined;
  app.route({
    method: 'GET',
    url: '/docs',
    config: { access: 'none' },
    schema: { ...shared, summary: 'This description, for people' },
    async handler(_request, reply) {
      docs ??= renderPage(openApi.document());
      return send(reply, docs);
    },
  });

  const test = await loadTestPage();
  app.route({
    method: 'GET',
    url: '/test',
    config: { access: 'none' },
    schema: { ...shared, summary: 'A page to try sandboxes by hand; it asks for a key' },
    handler: async (_request, reply) => send(reply, test),
  });
}

function send(reply: FastifyReply, page: Page): FastifyReply {
  return reply
    .type('text/html; charset=utf-8')
    .header('content-security-policy', page.contentSecurityPolicy)
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', 'no-referrer')
    .send(page.html);
}
