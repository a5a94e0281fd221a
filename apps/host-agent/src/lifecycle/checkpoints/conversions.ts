/** Conversions of snapshots with names: one at a time of a snapshot to a format, for all who wait for it. */
import type { LayerFormat } from '@perch/protocol';
import type { ConvertDeps } from './convert.ts';
import { convertNamed } from './convert-named.ts';
import type { SnapshotStore } from './snapshot-store.ts';

export class Conversions {
  readonly #deps: ConvertDeps & { snapshots: SnapshotStore };
  readonly #running = new Map<string, Promise<void>>();
  readonly #stopped = new AbortController();

  constructor(deps: ConvertDeps & { snapshots: SnapshotStore }) {
    this.#deps = deps;
  }

  /** @throws as `convertNamed` */
  run(name: string, format: LayerFormat): Promise<void> {
    const key = `${name} ${format}`;
    const running = this.#running.get(key) ?? this.#convert(name, format, key);
    this.#running.set(key, running);
    return running;
  }

  async #convert(name: string, format: LayerFormat, key: string): Promise<void> {
    try {
      await convertNamed(name, format, this.#deps, this.#stopped.signal);
    } finally {
      this.#running.delete(key);
    }
  }

  /** Gives up those under way, and waits until nothing works on them any more. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('The host agent stops.'));
    await Promise.allSettled(this.#running.values());
  }
}
