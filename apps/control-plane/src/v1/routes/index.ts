import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import type { OpenApi } from '../../docs/index.ts';
import type { Services } from '../../http/index.ts';
import { addApiKeyRoutes } from './api-keys.ts';
import { addCommandRoutes } from './commands.ts';
import { addExecRoutes } from './exec.ts';
import { addFileRoutes } from './files.ts';
import { addPageRoutes } from './pages.ts';
import { addPlatformRoutes } from './platform.ts';
import { addPortRoutes } from './ports.ts';
import { addReadyRoutes } from './ready.ts';
import { addSandboxRoutes } from './sandboxes.ts';
import { addSnapshotRoutes } from './snapshots.ts';
import { addTransitionRoutes } from './transitions.ts';
import { addWatchRoute } from './watch.ts';

export async function addRoutes(
  server: FastifyInstance,
  services: Services,
  openApi: OpenApi,
): Promise<void> {
  const app = server.withTypeProvider<TypeBoxTypeProvider>();
  addSandboxRoutes(app, services);
  addTransitionRoutes(app, services);
  addSnapshotRoutes(app, services);
  addExecRoutes(app, services);
  addCommandRoutes(app, services);
  await addFileRoutes(app, services);
  addWatchRoute(app, services);
  addPortRoutes(app, services);
  addApiKeyRoutes(app, services);
  addPlatformRoutes(app, services, openApi);
  addReadyRoutes(app, services);
  await addPageRoutes(app, openApi);
}
