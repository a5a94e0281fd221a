import { type ConvertSnapshot, randomLetters, type Snapshot } from '@perch/protocol';
import type { Hosts } from '../hosts/index.ts';

export interface SnapshotFilter {
  type?: Snapshot['type'] | undefined;
  name?: string | undefined;
  /** Of which it was made. */
  sandboxId?: string | undefined;
}

/** Images, and snapshots with a name. perchd keeps nothing of them: the host that has them is asked each time. */
export class Snapshots {
  readonly #hosts: Pick<Hosts, 'place'>;

  constructor(hosts: Pick<Hosts, 'place'>) {
    this.#hosts = hosts;
  }

  /** By name. */
  async list({ type, name, sandboxId }: SnapshotFilter, requestId: string): Promise<Snapshot[]> {
    const all = await this.#host.snapshots(requestId);
    return all.filter(
      (one) =>
        (type === undefined || one.type === type) &&
        (name === undefined || one.name === name) &&
        (sandboxId === undefined || one.sandbox_id === sandboxId),
    );
  }

  /** @throws PerchError snapshot_not_found */
  get(name: string, requestId: string): Promise<Snapshot> {
    return this.#host.describeSnapshot(name, requestId);
  }

  /** @throws PerchError snapshot_not_found, snapshot_in_use, capacity_exhausted, host_disk_full */
  flatten(name: string, requestId: string): Promise<Snapshot> {
    return this.#host.flattenSnapshot(name, requestId);
  }

  /** @throws PerchError as `flatten`, and conversion_failed, snapshot_damaged */
  convert(name: string, how: ConvertSnapshot, requestId: string): Promise<Snapshot> {
    return this.#host.convertSnapshot(name, how, requestId);
  }

  /** @throws PerchError snapshot_not_found, snapshot_in_use */
  remove(name: string, requestId: string): Promise<void> {
    return this.#host.removeSnapshot(name, requestId);
  }

  get #host() {
    return this.#hosts.place.client;
  }
}

/** The name of one whose maker gives it none. */
export function newSnapshotName(): string {
  return `snap-${randomLetters(8)}`;
}
