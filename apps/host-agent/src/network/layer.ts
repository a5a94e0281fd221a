import { randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { type Leftover, namespaceExists, nft, nftAccepts } from '../linux/index.ts';
import { contains, knownRange } from './cidr.ts';
import { hostRules, removeHostRules } from './host-rules.ts';
import { existingSlots, strayTables } from './inventory.ts';
import type { NetworkLayer, Slot } from './network-layer.ts';
import { type SlotMaker, SlotPool } from './pool.ts';
import { isUsableResolver } from './resolver.ts';
import { createSlotMaker } from './slot-maker.ts';
import { connectionLimitProbe } from './slot-rules.ts';
import { names, type SlotSpace, slotNames, slotSpace } from './slots.ts';
import { withStartLock } from './start-lock.ts';
import { checkFree, forwardBlockers, lookAround } from './surroundings.ts';

export interface NetworkLayerOptions {
  /** 1 to 6 of [a-z0-9]; part of every name, so that instances on one machine never touch each other. */
  instance: string;
  /** `PERCH_NETWORK`: a private IPv4 range from /16 to /28. */
  cidr: string;
  /** IPv4 address that questions of guests to their resolver go to; without it they are dropped. */
  uplinkDns: string | undefined;
  /** Slots made ahead. */
  poolSize: number;
  /** Rest of a slot before its number is used again. */
  quarantineMs: number;
  /** The one user beside root who may connect to guests. */
  perchUid: number;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** Most of a removal is waiting for the kernel. */
const parallelSweeps = 8;
/** A failure that comes once, as when a tool was killed, is over a moment later; a lasting one is not hurried. */
const poolRetryMs = [200, 1000, 5000];
/** A create takes half of that where guests are emulated. */
const replaceAfterMs = 1000;
const forwardingSetting = '/proc/sys/net/ipv4/ip_forward';

/** @throws Error for settings that cannot work; the message is for the operator */
export function createNetworkLayer(options: NetworkLayerOptions): NetworkLayer {
  return new LinuxNetworkLayer(options);
}

class LinuxNetworkLayer implements NetworkLayer {
  readonly #options: NetworkLayerOptions;
  readonly #space: SlotSpace;
  readonly #maker: SlotMaker;
  readonly #pool: SlotPool;
  /** Known once the host has been looked at, which is before the first slot is made. */
  #limitConnections = true;

  constructor(options: NetworkLayerOptions) {
    const { uplinkDns, instance, cidr, poolSize, quarantineMs, perchUid, log } = options;
    if (uplinkDns !== undefined && !isUsableResolver(uplinkDns)) {
      throw new Error(
        `PERCH_DNS is ${JSON.stringify(uplinkDns)}, but must be an IPv4 address outside 127.0.0.0/8, ` +
          'for example PERCH_DNS=9.9.9.9.',
      );
    }
    // It becomes part of a rule, where a wrong one would let someone else in.
    if (!Number.isInteger(perchUid) || perchUid < 0) throw new Error(`not a user id: ${perchUid}`);
    this.#options = options;
    this.#space = slotSpace(instance, cidr);
    if (uplinkDns !== undefined && contains(this.#space.network, knownRange(uplinkDns))) {
      throw new Error(
        `The resolver ${uplinkDns} is inside PERCH_NETWORK=${cidr}. Set PERCH_NETWORK to a free range.`,
      );
    }
    this.#maker = createSlotMaker(this.#space, () => this.#limitConnections);
    this.#pool = new SlotPool({
      total: this.#space.total,
      size: poolSize,
      quarantineMs,
      maker: this.#maker,
      first: randomInt(this.#space.total) + 1,
      now: () => performance.now(),
      replaceAfterMs,
      retryMs: poolRetryMs,
      log,
    });
  }

  async start(inUse: readonly number[]): Promise<void> {
    await withStartLock(() => this.#claimNetwork());
    await this.#checkHost();
    const swept = await this.#sweep(inUse);
    this.#warnOfMissing(inUse);
    this.#pool.start(inUse, swept);
  }

  async acquire(): Promise<Slot> {
    return this.describe(await this.#pool.acquire());
  }

  describe(number: number): Slot {
    const { namespace, tap, mac, address, uid } = this.#space.plan(number);
    return { number, namespace, tap, mac, address, uid };
  }

  slotOf(uid: number): number | undefined {
    return this.#space.ofUid(uid);
  }

  release(number: number): Promise<void> {
    return this.#pool.release(number);
  }

  async unowned(inUse: () => Iterable<number>): Promise<Leftover[]> {
    const { instance } = this.#options;
    const [slots, tables] = [await existingSlots(instance), await strayTables(instance)];
    const owned = new Set([...inUse(), ...this.#pool.held()]);
    return [
      ...slots
        .filter((number) => !owned.has(number))
        .map((number) => ({
          what: `network slot ${slotNames(instance, number).namespace}`,
          remove: () => this.#pool.discard(number),
        })),
      ...tables.map((table) => ({ what: `nft table ${table}`, remove: () => removeTable(table) })),
    ];
  }

  counts(): { total: number; used: number; ready: number } {
    return this.#pool.counts();
  }

  async stop(options: { remove?: boolean } = {}): Promise<void> {
    await this.#pool.stop();
    if (!options.remove) return;
    await this.#sweep([]);
    await nft(removeHostRules(this.#options.instance));
  }

  /** From here on the table tells other instances that the range is taken. */
  async #claimNetwork(): Promise<void> {
    const { instance, uplinkDns, perchUid } = this.#options;
    const { network } = this.#space;
    const { uses, attached } = await lookAround(instance);
    checkFree(network, uses);
    await nft(hostRules({ instance, network, attached, uplinkDns, perchUid }));
  }

  async #checkHost(): Promise<void> {
    const { log, uplinkDns, instance } = this.#options;
    // Writing it, even the same value, resets settings of all links.
    if (readFileSync(forwardingSetting, 'utf8').trim() !== '1') {
      writeFileSync(forwardingSetting, '1');
      log.info('IPv4 forwarding has been turned on');
    }
    this.#limitConnections = await nftAccepts(connectionLimitProbe);
    if (!this.#limitConnections) {
      log.warn('the kernel has no nft_connlimit: connections of a sandbox are not limited');
    }
    if (uplinkDns === undefined) {
      log.warn('no resolver was found, so sandboxes have none; set PERCH_DNS to the address of one');
    }
    const links = `${names(instance).vethPrefix}+`;
    for (const table of await forwardBlockers(instance)) {
      log.warn(
        { table },
        'the firewall drops what it does not know, and so keeps sandboxes from the Internet; accept them with, ' +
          `for example: iptables -I FORWARD -i ${links} -j ACCEPT; iptables -I FORWARD -o ${links} -j ACCEPT`,
      );
    }
  }

  /** Removes every slot that is not in use, and what else has a name of ours. @returns numbers of the slots */
  async #sweep(inUse: readonly number[]): Promise<number[]> {
    for (const table of await strayTables(this.#options.instance)) await removeTable(table);
    const stale = (await existingSlots(this.#options.instance)).filter((number) => !inUse.includes(number));
    const failures: unknown[] = [];
    const rest = [...stale];
    const sweepSome = async () => {
      for (let number = rest.pop(); number !== undefined; number = rest.pop()) {
        await this.#maker.remove(number).catch((error: unknown) => failures.push(error));
      }
    };
    await Promise.all(Array.from({ length: parallelSweeps }, sweepSome));
    if (failures.length > 0) {
      throw new AggregateError(failures, `${failures.length} network slots cannot be removed`);
    }
    return stale;
  }

  #warnOfMissing(inUse: readonly number[]): void {
    for (const number of inUse) {
      const { namespace } = this.describe(number);
      if (!namespaceExists(namespace)) {
        this.#options.log.warn({ slot: number, namespace }, 'a slot that is in use has lost its namespace');
      }
    }
  }
}

/** @param table `family name` */
function removeTable(table: string): Promise<void> {
  return nft(`table ${table}\ndelete table ${table}\n`);
}
