/** The nftables rules inside a slot: one transaction, loaded before a guest is there. */
import { formatRange, type Range } from './cidr.ts';
import { closedHosts, closedRanges } from './closed-ranges.ts';
import { guest, type SlotPlan, slotUplink } from './slots.ts';

/** Connections a guest may have open; without a limit one guest could fill the host's table of them. */
export const maxConnections = 8192;

/**
 * Of what a guest may not do so much is refused in a second that no program notices, and so little that refusing is
 * no work.
 */
export const maxRefusals = 100;

/** Whether the kernel has what the limit needs is probed with this. */
export const connectionLimitProbe = `table inet perch-probe {
  chain probe {
    ct count over 1 drop
  }
}
`;

/** An answer that no program waits longer for. The kernel sends none to what was sent to many. */
export const refusal = `meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited`;

export interface SlotRuleOptions {
  network: Range;
  limitConnections: boolean;
}

/**
 * - `tap0` takes the guest's own MAC with its own IPv4 address, and its ARP for the gateway. Nothing else
 *   gets past the driver: no IPv6, no VLAN, no DHCP.
 * - The host reaches every TCP port of the guest through the slot address, from its end of the veth pair
 *   only: a late answer to an earlier tenant of the address has another source, and ends here.
 * - The guest sees the gateway as the source of whatever reaches it, and as its resolver. Questions to it go
 *   to the host's end of the pair; the host knows where from there, so a slot outlives a change of resolver.
 * - What the guest may not reach is refused at once, to the guest alone: whatever gets here has its address.
 * - Nothing in the slot is spoken to or speaks, but for that and errors about connections that pass through.
 */
export function slotRules(plan: SlotPlan, { network, limitConnections }: SlotRuleOptions): string {
  const limit = limitConnections ? `ct state new ct count over ${maxConnections} goto refuse` : '';
  return `table netdev perch {
  chain tap {
    type filter hook ingress device "${guest.tap}" priority -500; policy drop;
    ether saddr != ${guest.mac} drop
    ip saddr ${guest.address} accept
    arp operation { request, reply } arp saddr ether ${guest.mac} arp saddr ip ${guest.address} arp daddr ip ${guest.gateway} accept
  }
}
table inet perch {
  set closed {
    type ipv4_addr; flags interval; auto-merge;
    elements = { ${[...closedRanges, ...closedHosts, formatRange(network)].join(', ')} }
  }
  chain destination {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${slotUplink}" ip saddr ${plan.hostAddress} ip daddr ${plan.address} meta l4proto tcp dnat ip to ${guest.address}
    iifname "${guest.tap}" ip daddr ${guest.gateway} meta l4proto { tcp, udp } th dport 53 dnat ip to ${plan.hostAddress}
  }
  chain source {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${guest.tap}" snat ip to ${guest.gateway}
    oifname "${slotUplink}" snat ip to ${plan.address}
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "${guest.tap}" ct state != invalid goto refuse
  }
  chain output {
    type filter hook output priority filter; policy drop;
    ct state established,related accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    meta nfproto != ipv4 drop
    ct state invalid drop
    iifname "${slotUplink}" oifname "${guest.tap}" goto to_guest
    iifname "${guest.tap}" oifname "${slotUplink}" goto from_guest
  }
  chain to_guest {
    ct state established,related accept
    ct status dnat accept
    drop
  }
  chain from_guest {
    ct direction reply ct state established,related accept
    ct status dnat accept
    ip daddr @closed goto refuse
    ${limit}
    accept
  }
  chain refuse {
    limit rate over ${maxRefusals}/second burst ${maxRefusals} packets drop
    ${refusal}
  }
}
`;
}
