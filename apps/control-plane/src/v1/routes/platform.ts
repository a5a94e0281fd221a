import {
  ErrorBody,
  Health,
  type Host,
  type HostInfo,
  HostList,
  TemplateList,
  version,
} from '@perch/protocol';
import { sql } from 'kysely';
import type { OpenApi } from '../../docs/index.ts';
import type { Services } from '../../http/index.ts';
import type { App } from './app.ts';

const tags = ['platform'];
const healthWithinMs = 3_000;

export function addPlatformRoutes(app: App, services: Services, openApi: OpenApi): void {
  const { hosts, metrics, sandboxes } = services;
  const { directory } = hosts.place;

  app.route({
    method: 'GET',
    url: '/health',
    config: { access: 'none' },
    schema: {
      summary: 'Whether a sandbox could be created now',
      tags,
      response: { 200: Health, 503: { ...Health, description: 'Not now; `problems` says why.' } } as object,
    },
    async handler(_request, reply) {
      const health = await look(services);
      return reply.code(health.status === 'ok' ? 200 : 503).send({ ...health, version });
    },
  });

  app.route({
    method: 'GET',
    url: '/v1/templates',
    schema: {
      summary: 'List templates',
      tags,
      response: { 200: TemplateList, 503: 'The host does not answer.' } as object,
    },
    handler: async () => ({ items: (await directory.info()).templates }),
  });

  app.route({
    method: 'GET',
    url: '/v1/hosts',
    schema: { summary: 'List hosts', tags, response: { 200: HostList } as object },
    async handler() {
      const counts = [...sandboxes.counts().values()].reduce((sum, count) => sum + count, 0);
      const info = await directory.info().catch(() => undefined);
      const known = info ?? directory.known;
      return { items: known ? [toHost(known, info !== undefined, counts)] : [] };
    },
  });

  app.route({
    method: 'GET',
    url: '/metrics',
    schema: {
      summary: 'Metrics for Prometheus',
      tags,
      response: {
        200: { type: 'string', contentType: 'text/plain', description: 'Prometheus text.' },
      } as object,
    },
    async handler(_request, reply) {
      return reply.type(metrics.contentType).send(await metrics.text());
    },
  });

  app.route({
    method: 'GET',
    url: '/openapi.json',
    config: { access: 'none' },
    schema: {
      summary: 'This description, for programs',
      tags,
      response: { 200: { type: 'object', description: 'OpenAPI 3.1.' } } as object,
    },
    handler: async () => openApi.document(),
  });
  openApi.component(ErrorBody);
}

/** Whether a sandbox could be created, and what keeps it from that. Throws nothing. */
async function look({ database, hosts }: Services): Promise<Omit<Health, 'version'>> {
  const [db, host] = await Promise.all([
    within(sql`SELECT 1`.execute(database)).then(
      () => [],
      () => ['the database does not answer'],
    ),
    within(hosts.place.directory.info()).catch(() => undefined),
  ]);
  const problems = [...db, ...problemsOf(host)];
  if (problems.length > 0) return { status: 'unavailable', problems };
  const lacks = host?.lacks ?? [];
  if (lacks.length === 0) return { status: 'ok', problems };
  return { status: 'full', problems: [`the host has too little ${lacks.join(' and ')} for another sandbox`] };
}

function problemsOf(host: HostInfo | undefined): string[] {
  if (!host) return ['the host agent does not answer'];
  if (host.ready) return [];
  return host.problems.length > 0 ? host.problems : ['the host is not ready'];
}

async function within<T>(task: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), healthWithinMs);
  });
  return Promise.race([task, late]).finally(() => clearTimeout(timer));
}

function toHost(info: HostInfo, reachable: boolean, sandboxes: number): Host {
  const { monitor, disk } = info.machine;
  return {
    id: info.host_id,
    status: reachable ? (info.ready ? 'ready' : 'not_ready') : 'unreachable',
    problems: reachable ? info.problems : ['the host agent does not answer'],
    vmm: `${monitor.kind} ${monitor.version} (${monitor.accelerator})`,
    disk: disk.format,
    memory_mb: info.memory_mb,
    disk_mb: info.disk_mb,
    sandboxes,
  };
}
