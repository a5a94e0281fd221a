/** One Perch for all end-to-end files that need none of their own. */
import type { TestProject } from 'vitest/node';
import { domainDns, openDnsPort } from './domain-dns.ts';
import { PerchInstance } from './perch-instance.ts';
import { startTestInternet, testResolver } from './test-internet.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    perch: {
      url: string;
      key: string;
      dataDir: string;
      env: Record<string, string>;
      pids: { perchd: number; host: number };
    };
  }
}

/** @returns what takes it down again, and fails when anything of it is left */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await using started = new AsyncDisposableStack();
  started.use(await startTestInternet());
  await openDnsPort();
  const env = { PERCH_DNS: testResolver, PERCH_DOMAIN_DNS: `${domainDns.address}:${domainDns.port}` };
  const instance = await PerchInstance.start({ network: 77, env });
  started.use(instance);
  const { url, key, dataDir } = instance;
  const pids = { perchd: instance.pid('perchd'), host: instance.pid('perch-host') };
  project.provide('perch', { url, key, dataDir, env: instance.env, pids });
  const all = started.move();
  return () => all.disposeAsync();
}
