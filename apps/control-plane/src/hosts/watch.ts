import { setTimeout as sleep } from 'node:timers/promises';
import type { HostClient } from '@perch/host-client';
import type { HostSandbox } from '@perch/protocol';
import type { Logger } from 'pino';

export interface HostWatcher {
  /** A sandbox of the host, as it is now. */
  sandbox(sandbox: HostSandbox): Promise<void>;
  /** Every sandbox was told; what comes from now on are changes. */
  synced(): Promise<void>;
}

/** The host agent is a process of this machine: to ask whether it is back costs nothing. */
const retryMs = 100;

/** Follows the events of a host until the signal ends it, connecting again when the stream breaks. */
export async function watchHost(
  client: HostClient,
  watcher: HostWatcher,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  let told = false;
  while (!signal.aborted) {
    try {
      for await (const event of client.events(signal)) {
        if (event.type === 'sandbox') await watcher.sandbox(event.sandbox);
        if (event.type === 'synced') {
          log.info('following the host agent');
          told = false;
          await watcher.synced();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!told) log.warn({ err: error }, 'the host agent cannot be followed; trying again');
      told = true;
    }
    await sleep(retryMs, undefined, { signal }).catch(() => {});
  }
}
