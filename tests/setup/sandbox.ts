/** The shared Perch as tests use it, and sandboxes that end with their test. */
import type { CreateSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import { Perch } from '../../packages/sdk/src/index.ts';
import { shared } from './shared.ts';

export function sharedPerch(): Perch {
  const { url, key } = shared;
  return new Perch({ url, apiKey: key });
}

/** Small, so that many fit on a small machine. */
const small: CreateSandbox = { memory_mb: 256, disk_mb: 1024, timeout_sec: 600 };

export type TestSandbox = Sandbox & AsyncDisposable;

export async function newSandbox(perch: Perch, request: CreateSandbox = {}): Promise<TestSandbox> {
  const sandbox = await perch.sandboxes.create({ ...small, ...request });
  return Object.assign(sandbox, { [Symbol.asyncDispose]: () => perch.sandboxes.delete(sandbox.id) });
}

/** Runs a shell line and gives its output; throws when it fails. */
export async function sh(perch: Perch, id: string, line: string, timeoutSec = 60): Promise<string> {
  const result = await perch.sandboxes.exec(id, { cmd: 'bash', args: ['-c', line], timeout_sec: timeoutSec });
  if (result.exit_code !== 0) throw new Error(`${line}: exit code ${result.exit_code}: ${result.stderr}`);
  return result.stdout;
}
