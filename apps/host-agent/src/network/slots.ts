/**
 * All that follows from the number of a slot: addresses, names, user. Nothing else decides any of them.
 *
 * Slot n takes the n-th pair of addresses of the network: the even one is the host's end of a veth pair, the
 * odd one (the slot address) the namespace's end. Pair 0 stays unused, since its first address is the
 * network's own.
 */
import { contains, formatAddress, knownRange, parseRange, type Range, sizeOf } from './cidr.ts';
import type { Slot } from './network-layer.ts';

/** The same in every slot, so that a snapshot can be restored in any. */
export const guest = {
  tap: 'tap0',
  address: '169.254.0.21',
  mac: '02:fc:00:00:00:05',
  /** The address that the guest knows as gateway, resolver and source of all that reaches it. */
  gateway: '169.254.0.22',
  gatewayMac: '02:fc:00:00:00:06',
  prefix: 30,
} as const;

/** The veth end inside a slot. */
export const slotUplink = 'eth0';

/** Linux takes names of links up to 15 characters: `pch`, 6 of the instance, a dash, 5 digits. */
const instancePattern = /^[a-z0-9]{1,6}$/;

const smallestPrefix = 16;
const largestPrefix = 28;
export const maxSlots = 32767;

/** Ranges that no public host has. Their slot addresses differ in the low 30 bits, and so do their users. */
const allowed = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '198.18.0.0/15'];
const allowedRanges = allowed.map(knownRange);

/** Users of slots are 2^30 and above: no account and no range of subordinate ids of a distribution is there. */
const firstUid = 0x40000000;
const uidBits = 0x3fffffff;

/** Slot and what only the network layer needs to know of it. */
export interface SlotPlan extends Slot {
  /** Host's end of the veth pair. */
  veth: string;
  /** Address of that end. */
  hostAddress: string;
  hostMac: string;
  uplinkMac: string;
}

export interface SlotSpace {
  readonly instance: string;
  readonly network: Range;
  /** Slots are 1..total. */
  readonly total: number;
  /** @throws RangeError for a number outside 1..total */
  readonly plan: (number: number) => SlotPlan;
  /** The slot whose user has this uid. */
  readonly ofUid: (uid: number) => number | undefined;
}

/** @throws Error when the instance or the range cannot be used; the message is for the operator */
export function slotSpace(instance: string, cidr: string): SlotSpace {
  names(instance);
  const network = parseNetwork(cidr);
  const total = Math.min(maxSlots, sizeOf(network) / 2 - 1);
  const firstOf = uidOf(network.base + 1);
  return {
    ...{ instance, network, total },
    plan: (number) => planSlot(instance, network, total, number),
    ofUid: (uid) => {
      const number = (uid - firstOf) / 2;
      return Number.isInteger(number) && number >= 1 && number <= total ? number : undefined;
    },
  };
}

function parseNetwork(cidr: string): Range {
  const network = parseRange(cidr);
  const help = 'Set PERCH_NETWORK to a private range, for example PERCH_NETWORK=10.11.0.0/16.';
  if (network === undefined) {
    throw new Error(`PERCH_NETWORK is ${JSON.stringify(cidr)}, which is not an IPv4 network. ${help}`);
  }
  if (network.prefix < smallestPrefix || network.prefix > largestPrefix) {
    throw new Error(
      `PERCH_NETWORK is ${cidr}, but must be a /${smallestPrefix} to /${largestPrefix}. ${help}`,
    );
  }
  if (!allowedRanges.some((range) => contains(range, network))) {
    throw new Error(`PERCH_NETWORK is ${cidr}, which is not inside ${allowed.join(', ')}. ${help}`);
  }
  return network;
}

function planSlot(instance: string, network: Range, total: number, number: number): SlotPlan {
  if (!Number.isInteger(number) || number < 1 || number > total) {
    throw new RangeError(`slot ${number} is not in 1..${total}`);
  }
  const hostAddress = network.base + 2 * number;
  const address = hostAddress + 1;
  const low = [number >>> 8, number & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  return {
    number,
    ...slotNames(instance, number),
    tap: guest.tap,
    mac: guest.mac,
    address: formatAddress(address),
    uid: uidOf(address),
    hostAddress: formatAddress(hostAddress),
    hostMac: `02:fc:01:00:${low}`,
    uplinkMac: `02:fc:02:00:${low}`,
  };
}

function uidOf(address: number): number {
  return firstUid + (address & uidBits);
}

export const isInstance = (text: string): boolean => instancePattern.test(text);

/** The dash ends the instance: no prefix of one instance is a prefix of another's names. */
export function names(instance: string): { namespacePrefix: string; vethPrefix: string; table: string } {
  if (!isInstance(instance)) {
    throw new Error(`the instance is ${JSON.stringify(instance)}, but must be 1 to 6 of a-z and 0-9`);
  }
  return {
    namespacePrefix: `perch-${instance}-`,
    vethPrefix: `pch${instance}-`,
    table: `${tablePrefix}${instance}`,
  };
}

/** Names of a slot, which may lie outside the range there is now. */
export function slotNames(instance: string, number: number): { namespace: string; veth: string } {
  const { namespacePrefix, vethPrefix } = names(instance);
  return { namespace: `${namespacePrefix}${number}`, veth: `${vethPrefix}${number}` };
}

export const tablePrefix = 'perch-';

/** The number in a name that starts with `prefix`, undefined when something else follows. */
export function numberIn(name: string, prefix: string): number | undefined {
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return /^[1-9][0-9]{0,4}$/.test(rest) ? Number(rest) : undefined;
}
