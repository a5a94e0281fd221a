/** Guests that are prepared before anybody asks for them: to become a boot snapshot, or to stand ready. */
import { randomBytes } from 'node:crypto';
import { isDiskFull } from '@perch/node-kit';
import { isPerchError, newSandboxId, PerchError } from '@perch/protocol';
import { failpoint } from '../../failpoints/index.ts';
import type { BaseImage } from '../../images/index.ts';
import type { StateStore } from '../checkpoints/index.ts';
import type { SandboxRecord } from '../journal/index.ts';
import { type Registry, type SandboxDriver, sentence } from '../sandbox/index.ts';
import type { BootGuest, GuestShape } from './boot-snapshots.ts';
import type { Source } from './sources.ts';

/** The first command of a guest takes ten times as long as the next: QEMU translates what the kernel does for it. */
const firstCommand = 'true';
/** The needs of most commands are then in the memory of all who start from the boot snapshot, and nothing is left to write. */
const usualCommands = '/bin/true; ls; python3 -c pass; sync';

const newSecrets = () => ({ accessToken: randomBytes(32).toString('hex'), env: {} });

/**
 * Boots a guest from power-on, as a sandbox that nobody else sees, and has `keep` take its snapshot. Room for
 * it is what the sandbox that waits for it has reserved.
 */
export async function bootGuest(
  image: BaseImage,
  shape: GuestShape,
  keep: Parameters<BootGuest>[1],
  { registry, saved }: { registry: Registry; saved: Pick<StateStore, 'directory'> },
): Promise<void> {
  const id = newSandboxId();
  const driver = registry.insert({ ...shape, id, kind: 'boot', generation: 1, template: image.name });
  try {
    const secrets = newSecrets();
    await driver.create(1, { from: { image }, secrets });
    await warmUp(driver, secrets.accessToken, usualCommands);
    await driver.pause(1);
    failpoint('template.paused');
    await keep(saved.directory(id, 1));
    failpoint('template.kept');
  } catch (cause) {
    throw notPrepared(cause);
  } finally {
    await driver.destroy();
  }
}

/** Makes a guest that stands ready, and has run before where it may. A destroy is what cuts it short. */
export async function makeReady(
  source: Source,
  template: string,
  registry: Registry,
  signal: AbortSignal,
): Promise<SandboxDriver> {
  signal.throwIfAborted();
  const id = newSandboxId();
  const driver = registry.insert({ ...source.shape, id, kind: 'ready', generation: 1, template });
  signal.addEventListener('abort', () => void driver.destroy().catch(() => {}), { once: true });
  try {
    const secrets = source.ready?.mayRun ? newSecrets() : undefined;
    await driver.create(1, { from: source, secrets });
    if (!secrets) return driver;
    const record = await warmUp(driver, secrets.accessToken, firstCommand);
    failpoint('ready.warm');
    await driver.resources.running(record).freeze();
    failpoint('ready.still');
    return driver;
  } catch (error) {
    await driver.destroy();
    throw error;
  }
}

async function warmUp(driver: SandboxDriver, accessToken: string, line: string): Promise<SandboxRecord> {
  const { record } = driver;
  if (record?.status !== 'running') throw new Error(record?.reason ?? 'It is gone.');
  await driver.resources.warmUp(record, accessToken, line);
  return record;
}

/** Why no guest could be booted; without room on the disk, as every create is told of that. */
function notPrepared(cause: unknown): Error {
  const message = `No guest of this shape could be prepared. ${sentence(cause)}`;
  if (isPerchError(cause, 'capacity_exhausted'))
    return new PerchError(cause.code, message, cause.details, { cause });
  if (isDiskFull(cause)) return new PerchError('host_disk_full', message, {}, { cause });
  return new Error(message, { cause });
}
