import { PinReady, ReadyGuests, ReadyGuestsList, TemplateParams } from '@perch/protocol';
import type { Services } from '../../http/index.ts';
import { pinReady } from '../../sandboxes/index.ts';
import type { App } from './app.ts';

const tags = ['platform'];

export function addReadyRoutes(app: App, { hosts: { place } }: Services): void {
  app.route({
    method: 'GET',
    url: '/v1/ready',
    schema: {
      tags,
      summary: 'List ready guests, by template and shape',
      description:
        'Guests that were restored ahead, and stand still until a create takes one over. Their number follows the creates of ' +
        'the last minutes, unless it is pinned.',
      response: { 200: ReadyGuestsList, 503: 'The host does not answer.' } as object,
    },
    handler: async (request) => ({ items: await place.client.ready(request.id) }),
  });

  app.route({
    method: 'POST',
    url: '/v1/templates/:name/ready',
    schema: {
      tags,
      summary: 'Pin the number of ready guests of a template',
      description:
        'It stays over restarts. The guests come in the background, as long as nobody needs their memory. The pin of a ' +
        'snapshot goes with it.',
      params: TemplateParams,
      body: PinReady,
      response: {
        200: { ...ReadyGuests, description: 'The number is set.' },
        400: 'A field is wrong, or the template is a snapshot without memory; or shape_mismatch, disk_too_small.',
        404: 'No such template.',
        409: 'too_many_ready: more than the host may keep.',
        503: 'The host does not answer.',
      } as object,
    },
    handler: (request) => pinReady(place, request.params.name, request.body, request.id),
  });
}
