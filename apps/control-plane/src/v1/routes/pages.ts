/** Pages for people with a browser. A page needs no key to load; its calls of the API do. */
import { version } from '@perch/protocol';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { type OpenApi, renderPage, renderStartPage } from '../../docs/index.ts';
import { loadTestPage, type Page } from '../../pages/index.ts';
import type { App } from './app.ts';

const shared = {
  tags: ['platform'],
  response: { 200: { type: 'string', contentType: 'text/html', description: 'A page.' } } as object,
};

const links = [
  { href: '/test', title: 'Test page', text: 'sandboxes by hand; it asks for a key' },
  { href: '/docs', title: 'API', text: 'every route and its fields' },
  { href: '/openapi.json', title: 'OpenAPI', text: 'the same for programs' },
  { href: '/health', title: 'Health', text: 'whether a sandbox could be created now' },
];
const StartAnswer = Type.Object(
  { name: Type.Literal('perch'), version: Type.String(), docs: Type.String(), openapi: Type.String() },
  { description: 'For programs; a browser gets a page.' },
);

export async function addPageRoutes(app: App, openApi: OpenApi): Promise<void> {
  const start = renderStartPage(links);
  app.route({
    method: 'GET',
    url: '/',
    config: { access: 'none' },
    schema: { summary: 'Where to go on', tags: shared.tags, response: { 200: StartAnswer } as object },
    async handler(request, reply) {
      void reply.header('vary', 'accept');
      if (request.headers.accept?.includes('text/html')) return send(reply, start);
      return { name: 'perch', version, docs: '/docs', openapi: '/openapi.json' };
    },
  });

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
