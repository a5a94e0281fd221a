/** The memory and disk of this host that sandboxes have reserved. Room is found for one at a time: each look at it is followed by a claim. */
import { isPerchError } from '@perch/protocol';
import { type Journal, Mutex, type SandboxRecord } from '../journal/index.ts';
import type { Registry } from '../sandbox/index.ts';
import {
  type Admission,
  type Capacity,
  isHeld,
  type OnDisk,
  type Resource,
  type Shape,
} from './admission.ts';

export interface ReservationDeps {
  admission: Admission;
  journal: Pick<Journal, 'list'>;
  registry: Registry;
  /**
   * Gives so many MiB of the memory of ready guests back, or more: they are not counted as held.
   * @returns whether there was any
   */
  giveWay: (memoryMb: number) => Promise<boolean>;
}

/** MiB of memory that each guest has. */
const oneGuest = 1;

export class Reservations {
  readonly #deps: ReservationDeps;
  readonly #mutex = new Mutex();

  constructor(deps: ReservationDeps) {
    this.#deps = deps;
  }

  /** Does `work`, which looks for room and claims it, when nobody else does. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#mutex.run(work);
  }

  /** Ready guests go when their disks are needed, and are enough. @throws PerchError capacity_exhausted */
  async assertFits(shape: Shape): Promise<void> {
    const { admission, giveWay } = this.#deps;
    for (;;) {
      const held = await this.#onDisk();
      try {
        return await admission.admit(shape, held);
      } catch (error) {
        if (!isPerchError(error, 'capacity_exhausted') || error.details.resource !== 'disk') throw error;
        const lacks = await admission.lacksDisk(shape, held);
        if (lacks > (await this.#readyOnDisk()) || !(await giveWay(oneGuest))) throw error;
      }
    }
  }

  /** Whether the memory of one more is there beside that of ready guests. */
  fitsBesideReady(shape: Shape): boolean {
    return this.#lacksBesideReady(shape) <= 0;
  }

  /** Ready guests go when their memory is needed, as many as it takes. */
  async makeRoom(shape: Shape): Promise<void> {
    for (;;) {
      const lacks = this.#lacksBesideReady(shape);
      if (lacks <= 0 || !(await this.#deps.giveWay(lacks))) return;
    }
  }

  #lacksBesideReady(shape: Shape): number {
    return this.#deps.admission.lacksMemory(shape, this.#inMemory());
  }

  /**
   * Finds room for a paused sandbox and does `work` before anybody else asks for it.
   * @throws PerchError capacity_exhausted
   */
  again(record: SandboxRecord, work: () => void): Promise<void> {
    return this.exclusively(async () => {
      this.#deps.admission.admitMemory(record, this.#held());
      await this.makeRoom(record);
      work();
    });
  }

  async capacity(): Promise<Record<Resource, Capacity>> {
    const held = await this.#onDisk();
    const { admission } = this.#deps;
    return { memory: admission.memory(held), disk: await admission.disk(held) };
  }

  /** The resources of which there is too little for one more of this shape. @param room of whoever has just asked for it */
  async lacks(shape: Shape, room?: Record<Resource, Capacity>): Promise<Resource[]> {
    return this.#deps.admission.lacks(shape, room ?? (await this.capacity()));
  }

  /** Sandboxes that something is reserved for. */
  #held(): SandboxRecord[] {
    return this.#deps.registry.sandboxes().filter(isHeld);
  }

  /** Sandboxes and guests that stand ready, which have memory that is nobody's yet. */
  #inMemory(): SandboxRecord[] {
    return this.#deps.journal.list().filter((record) => record.kind !== 'boot' && isHeld(record));
  }

  /** Bytes of the disk that are there again when no guest stands ready. */
  async #readyOnDisk(): Promise<number> {
    const ready = this.#deps.journal.list().filter(({ kind }) => kind === 'ready');
    const taken = ready.map((record) => this.#takenBytes(record));
    return (await Promise.all(taken)).reduce((sum, bytes) => sum + bytes, 0);
  }

  async #takenBytes(record: SandboxRecord): Promise<number> {
    return (await this.#deps.registry.find(record.id)?.resources.takenBytes(record)) ?? 0;
  }

  #onDisk(): Promise<(SandboxRecord & OnDisk)[]> {
    return Promise.all(
      this.#held().map(async (record) => ({ ...record, takenBytes: await this.#takenBytes(record) })),
    );
  }
}
