/** One Perch for all end-to-end files that need none of their own. */
import type { TestProject } from 'vitest/node';
import { PerchInstance } from './perch-instance.ts';
import { startTestInternet, testResolver } from './test-internet.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    perch: { url: string; key: string; dataDir: string; env: Record<string, string> };
  }
}

/** @returns what takes it down again, and fails when anything of it is left */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const internet = await startTestInternet();
  const instance = await PerchInstance.start({ network: 77, env: { PERCH_DNS: testResolver } });
  const { url, key, dataDir, env } = instance;
  project.provide('perch', { url, key, dataDir, env });
  return async () => {
    await instance[Symbol.asyncDispose]();
    await internet[Symbol.asyncDispose]();
  };
}
