/** The network that this machine is part of: what the range of slots must not touch. */
import { ipJson, nftList } from '../linux/index.ts';
import { formatRange, overlaps, parseAddress, parseRange, type Range, rangeAround } from './cidr.ts';
import { networkSet } from './host-rules.ts';
import { listInstances } from './inventory.ts';
import { names } from './slots.ts';

interface IpAddress {
  ifname: string;
  addr_info: { local?: string; prefixlen?: number }[];
}

interface IpRoute {
  type?: string;
  dst: string;
  dev?: string;
  scope?: string;
}

interface Use {
  range: Range;
  /** Who uses it, for a sentence. */
  by: string;
  /** The command that ends that use, for another. */
  toFree?: string;
}

export interface Surroundings {
  uses: Use[];
  /** Networks on the machine's own links. */
  attached: Range[];
}

/** Two halves of the Internet are how VPNs write a default route. */
const widestUse = 2;
/** A wider route "on link" is a default route of a tunnel. */
const widestAttached = 8;
/** Routes that say that nobody is there. */
const deadRoutes = new Set(['unreachable', 'blackhole', 'prohibit', 'throw']);

/** Everything but what is this instance's own. */
export async function lookAround(instance: string): Promise<Surroundings> {
  const { vethPrefix } = names(instance);
  const [addresses, routes, instances] = await Promise.all([
    ipJson<IpAddress>(['-4', 'addr', 'show']),
    ipJson<IpRoute>(['-4', 'route', 'show', 'table', 'all']),
    listInstances(),
  ]);
  const others = instances.filter((other) => other !== instance);
  const foreignRoutes = routes.filter(({ dev }) => !dev?.startsWith(vethPrefix));
  // The first that is in the way is named, and an instance says more than one of its links.
  const uses = [
    ...(await Promise.all(others.map(instanceUses))).flat(),
    ...addresses.filter(({ ifname }) => !ifname.startsWith(vethPrefix)).flatMap(addressUses),
    ...foreignRoutes.filter(({ type }) => !deadRoutes.has(type ?? '')).flatMap(routeUses),
  ];
  const attached = foreignRoutes
    .filter(({ scope, type }) => scope === 'link' && (type ?? 'unicast') === 'unicast')
    .map(({ dst }) => parseRange(dst))
    .filter((range) => range !== undefined)
    .filter(({ prefix }) => prefix >= widestAttached);
  return { uses, attached };
}

function addressUses({ ifname, addr_info }: IpAddress): Use[] {
  return addr_info.flatMap(({ local, prefixlen }) => {
    const address = parseAddress(local ?? '');
    if (address === undefined || prefixlen === undefined) return [];
    return [{ range: rangeAround(address, prefixlen), by: `the address ${local} of ${ifname}` }];
  });
}

function routeUses({ dst, dev }: IpRoute): Use[] {
  const range = parseRange(dst);
  if (range === undefined || range.prefix < widestUse) return [];
  return [{ range, by: `the route to ${dst}${dev ? ` by ${dev}` : ''}` }];
}

async function instanceUses(instance: string): Promise<Use[]> {
  const { table } = names(instance);
  const objects = await nftList(['list', 'set', 'inet', table, networkSet]).catch(() => []);
  return objects.flatMap(({ set }) => {
    const elements = (set as { elem?: unknown[] } | undefined)?.elem ?? [];
    return elements.flatMap((element) => {
      const prefix = (element as { prefix?: { addr: string; len: number } }).prefix;
      const range = prefix && parseRange(`${prefix.addr}/${prefix.len}`);
      return range
        ? [{ range, by: `the Perch instance ${instance} on this machine`, toFree: toRemove(instance) }]
        : [];
    });
  });
}

/** Only its own data directory knows how to take an instance down; without that, by the names of what it has. */
function toRemove(instance: string): string {
  const { namespacePrefix, table } = names(instance);
  const line =
    `for n in $(ip netns list | grep -o '^${namespacePrefix}[0-9]*'); do ` +
    `ip netns pids $n | xargs -r kill -9; ip netns delete $n; done; nft delete table inet ${table}`;
  return `If its data directory was deleted by hand, this removes what it left: ${line}`;
}

/** @throws Error that names what is in the way and a range that is free */
export function checkFree(network: Range, uses: readonly Use[]): void {
  const conflict = uses.find(({ range }) => overlaps(range, network));
  if (conflict === undefined) return;
  const free = freeRange(uses);
  const help = free
    ? `Set PERCH_NETWORK to a free range, for example PERCH_NETWORK=${formatRange(free)}.`
    : 'Set PERCH_NETWORK to a private range that nothing on this machine uses.';
  const { by, toFree } = conflict;
  throw new Error(
    `PERCH_NETWORK is ${formatRange(network)}, which overlaps ${by}. ${help}${toFree ? ` ${toFree}` : ''}`,
  );
}

function* candidates(): Generator<string> {
  for (let second = 11; second < 255; second++) yield `10.${second}.0.0/16`;
  for (let second = 16; second < 32; second++) yield `172.${second}.0.0/16`;
  for (let third = 0; third < 256; third += 16) yield `192.168.${third}.0/20`;
  yield '198.18.0.0/16';
}

function freeRange(uses: readonly Use[]): Range | undefined {
  for (const candidate of candidates()) {
    const range = parseRange(candidate);
    if (range && !uses.some((use) => overlaps(use.range, range))) return range;
  }
  return undefined;
}

/** Base chains of other programs that drop whatever they do not know, Docker's and firewalls' among them. */
export async function forwardBlockers(instance: string): Promise<string[]> {
  const { table: own } = names(instance);
  const chains = await nftList(['list', 'chains']);
  return chains
    .map(({ chain }) => chain as { family: string; table: string; hook?: string; policy?: string })
    .filter(({ hook, policy, table }) => hook === 'forward' && policy === 'drop' && table !== own)
    .filter(({ family }) => family === 'ip' || family === 'inet')
    .map(({ family, table }) => `${family} ${table}`);
}
