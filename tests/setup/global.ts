/** A Perch for each worker, for all end-to-end files that need none of their own. */
import type { TestProject } from 'vitest/node';
import { PerchInstance } from './perch-instance.ts';
import { startTestInternet, testResolver } from './test-internet.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** By number of the worker, from 0. */
    perches: {
      url: string;
      key: string;
      dataDir: string;
      env: Record<string, string>;
      pids: { perchd: number; host: number };
    }[];
  }
}

/** Second bytes of their networks. */
const networks = [76, 77];

/** @returns what takes them down again, and fails when anything of them is left */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await using started = new AsyncDisposableStack();
  started.use(await startTestInternet());
  const perches: PerchInstance[] = [];
  for (const network of networks.slice(0, project.config.maxWorkers)) {
    const instance = await PerchInstance.start({ network, env: { PERCH_DNS: testResolver } });
    perches.push(started.use(instance));
  }
  project.provide(
    'perches',
    perches.map((instance) => {
      const { url, key, dataDir, env } = instance;
      return {
        url,
        key,
        dataDir,
        env,
        pids: { perchd: instance.pid('perchd'), host: instance.pid('perch-host') },
      };
    }),
  );
  const all = started.move();
  return () => all.disposeAsync();
}
