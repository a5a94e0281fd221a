/** Makes and removes slots: namespace, veth pair, tap and rules. */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { failpoint } from '../failpoints/index.ts';
import {
  createTap,
  inNamespace,
  ipBatch,
  linkExists,
  namespaceExists,
  nft,
  RunError,
} from '../linux/index.ts';
import type { SlotMaker } from './pool.ts';
import { maxRefusals, slotRules } from './slot-rules.ts';
import { guest, type SlotPlan, type SlotSpace, slotNames, slotUplink } from './slots.ts';

/** `limitConnections`: whether the kernel can; asked each time a slot is made. */
export function createSlotMaker(space: SlotSpace, limitConnections: () => boolean): SlotMaker {
  const rulesOf = (plan: SlotPlan) =>
    slotRules(plan, { network: space.network, limitConnections: limitConnections() });
  return {
    make: (number) => {
      const plan = space.plan(number);
      return makeSlot(plan, rulesOf(plan));
    },
    remove: (number) => removeSlot(slotNames(space.instance, number)),
  };
}

async function makeSlot(plan: SlotPlan, rules: string): Promise<void> {
  const { namespace, veth, hostAddress, hostMac, address, uplinkMac } = plan;
  // Fixed neighbours cost no look-up, and do not count against the limit of the host's neighbour table.
  await ipBatch([
    `netns add ${namespace}`,
    `link add ${veth} address ${hostMac} type veth peer name ${slotUplink} address ${uplinkMac} netns ${namespace}`,
    `link set ${veth} addrgenmode none`,
    `addr add ${hostAddress}/31 dev ${veth}`,
    `link set ${veth} up`,
    `neigh replace ${address} lladdr ${uplinkMac} dev ${veth} nud permanent`,
  ]);
  failpoint('slot.links');
  inNamespace(namespace, writeSlotSettings);
  createTap(namespace, guest.tap);
  failpoint('slot.tap');
  // The rules are there before a guest is, since the tap has no carrier until a monitor opens it.
  await Promise.all([
    nft(rules, namespace),
    ipBatch(
      [
        `link set ${guest.tap} address ${guest.gatewayMac} up`,
        `addr add ${guest.gateway}/${guest.prefix} dev ${guest.tap}`,
        `neigh replace ${guest.address} lladdr ${guest.mac} dev ${guest.tap} nud permanent`,
        `link set ${slotUplink} up`,
        `addr add ${address}/31 dev ${slotUplink}`,
        `neigh replace ${hostAddress} lladdr ${hostMac} dev ${slotUplink} nud permanent`,
        `route add default via ${hostAddress}`,
      ],
      { namespace },
    ),
  ]);
  failpoint('slot.made');
}

/** Written before the links of the slot are there, as `default`; `all` counts for what has been made since. */
const slotSettings: [string, string][] = [
  ['ipv4/ip_forward', '1'],
  // Milliseconds between ICMP errors to one address. A guest is told more often than once a second what is closed to it.
  ['ipv4/icmp_ratelimit', String(1000 / maxRefusals)],
  ...['all', 'default'].flatMap((links): [string, string][] => [
    [`ipv4/conf/${links}/rp_filter`, '1'],
    [`ipv4/conf/${links}/arp_ignore`, '1'],
    [`ipv4/conf/${links}/arp_announce`, '2'],
    [`ipv4/conf/${links}/accept_redirects`, '0'],
    [`ipv4/conf/${links}/send_redirects`, '0'],
    [`ipv4/conf/${links}/accept_source_route`, '0'],
    [`ipv4/conf/${links}/route_localnet`, '0'],
    [`ipv4/conf/${links}/proxy_arp`, '0'],
    [`ipv6/conf/${links}/disable_ipv6`, '1'],
  ]),
  // The veth end was made before these settings, and some of them are the stricter of `all` and the link's own.
  [`ipv4/conf/${slotUplink}/accept_redirects`, '0'],
  [`ipv4/conf/${slotUplink}/send_redirects`, '0'],
];

function writeSlotSettings(): void {
  const hasIpv6 = existsSync('/proc/sys/net/ipv6');
  for (const [setting, value] of slotSettings) {
    if (hasIpv6 || !setting.startsWith('ipv6/')) writeFileSync(`/proc/sys/net/${setting}`, value);
  }
}

/** The veth pair goes with its namespace, a little later, unless a process still holds that. */
const vethGoneMs = 500;
const pollMs = 2;

async function removeSlot({ namespace, veth }: { namespace: string; veth: string }): Promise<void> {
  if (namespaceExists(namespace)) await removed([`netns del ${namespace}`]);
  const deadline = performance.now() + vethGoneMs;
  while (linkExists(veth) && performance.now() < deadline) await sleep(pollMs);
  if (linkExists(veth)) await removed([`link del ${veth}`]);
  if (namespaceExists(namespace) || linkExists(veth)) {
    throw new Error(`${namespace} and its link ${veth} cannot be removed`);
  }
}

/** A thing that goes by itself at the same moment makes a command fail; the caller looks at the rest. */
async function removed(lines: string[]): Promise<void> {
  try {
    await ipBatch(lines, { force: true });
  } catch (error) {
    if (!(error instanceof RunError) || error.outcome !== 'failed') throw error;
  }
}
