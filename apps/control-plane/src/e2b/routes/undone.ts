/** Calls of E2B that are not there: known ones by what they are for, so that nobody takes it for a wrong address. */
import { PerchError } from '@perch/protocol';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

const undone: readonly [pattern: RegExp, what: string][] = [
  [/^\/(volumes|volumecontent)(\/|$)/, 'Volumes are'],
  [/^\/secrets(\/|$)/, 'Secrets are'],
  [/^\/v[23]\/templates(\/|$)/, 'Template builds are'],
  [/^\/templates\/(tags|[^/]+\/(files|builds|tags))(\/|$)/, 'Template builds are'],
  [/^\/templates(\/[^/]+)?$/, 'Template builds are'],
  [/^\/teams(\/|$)/, 'Teams are'],
];
const paths = ['sandboxes', 'snapshots', 'templates', 'volumes', 'volumecontent', 'secrets', 'teams'];

export function addUndone(app: FastifyInstance): void {
  const handler = async (request: FastifyRequest, _reply: FastifyReply) => {
    const path = (request.url.split('?')[0] ?? '').slice(0, 200);
    const what = undone.find(([pattern]) => pattern.test(path))?.[1];
    if (what === undefined) {
      const { method } = request;
      throw new PerchError('route_not_found', `There is no ${method} ${path}.`, { method, path });
    }
    const message = `${what} not offered by Perch`;
    throw new PerchError('validation_failed', `${message}.`, { problems: [{ where: path, message }] });
  };
  const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
  for (const path of paths) {
    app.route({ method: methods, url: `/${path}/*`, handler });
    if (path !== 'sandboxes')
      app.route({ method: methods.filter((one) => free(path, one)), url: `/${path}`, handler });
  }
  for (const version of ['v2', 'v3']) app.route({ method: methods, url: `/${version}/*`, handler });
}

/** Methods of a path that no other route has. */
function free(path: string, method: string): boolean {
  return !(method === 'GET' && (path === 'snapshots' || path === 'templates'));
}
