/** The network layer, as Perch uses it. */
import type { Leftover } from '../linux/index.ts';

/** A place in the network for one guest, ready to use. */
export interface Slot {
  /** 1..32767 */
  number: number;
  /** `perch-{instance}-{number}`, under /run/netns. */
  namespace: string;
  tap: string;
  /** The guest's MAC, the same in every slot. */
  mac: string;
  /** Address at which the host reaches the guest. */
  address: string;
  /** uid and gid of the monitor that uses this slot; unique on the machine, since address ranges are. */
  uid: number;
}

export interface NetworkLayer {
  /**
   * Sets up what all slots share and fills the pool. Namespaces of this instance that are not in `inUse`
   * are removed; those in `inUse` are kept as they are.
   * @throws when the address range overlaps one that this machine uses (another instance, a route, an interface).
   */
  start(inUse: readonly number[]): Promise<void>;
  /** Takes a slot: from the pool, or made now. @throws PerchError capacity_exhausted, shutting_down */
  acquire(): Promise<Slot>;
  /** The slot that a running sandbox holds, as after a restart. */
  describe(number: number): Slot;
  /** The slot whose user has this uid. */
  slotOf(uid: number): number | undefined;
  /**
   * Things that exist by a name of this instance and are neither in use nor in the hands of this layer, as a look at one
   * moment finds it.
   * @param inUse asked once all that exists is listed, so that what is made meanwhile is in both or in none
   */
  unowned(inUse: () => Iterable<number>): Promise<Leftover[]>;
  /**
   * Gives a slot back; it is torn down and rests before its number is used again. Safe to repeat, and allowed
   * before `start`. When it rejects, something of the slot may be left, and it may be given back again.
   */
  release(number: number): Promise<void>;
  counts(): { total: number; used: number; ready: number };
  /** Stops background work. Slots stay unless `remove`, which takes down everything of this instance. */
  stop(options?: { remove?: boolean }): Promise<void>;
}
