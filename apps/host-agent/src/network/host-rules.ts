/** The nftables table of an instance on the host: the same size however many slots there are. */
import { formatRange, type Range } from './cidr.ts';
import { closedHosts, closedRanges } from './closed-ranges.ts';
import { maxRefusals, refusal } from './slot-rules.ts';
import { maxSlots, names } from './slots.ts';

export interface HostRuleOptions {
  instance: string;
  network: Range;
  /** Networks that the host is attached to, which are closed to guests whatever their addresses are. */
  attached: readonly Range[];
  /** Where questions of guests go; without it they are dropped. */
  uplinkDns: string | undefined;
  perchUid: number;
}

/** The set in a table by which other instances know the range that this one uses. */
export const networkSet = 'network';

/**
 * Replaces the table in one transaction; connections that are open stay so.
 *
 * All that comes from a slot is judged where it enters, before another program's table can redirect it, and
 * once more where it would be delivered or forwarded. A closed address is refused there to the slot, whose address
 * it must have to get that far; of each slot no more than a bound in a second. An `accept` here is not the last word: another table
 * may still drop.
 */
export function hostRules(options: HostRuleOptions): string {
  const { table, vethPrefix } = names(options.instance);
  const slots = `"${vethPrefix}*"`;
  const closed = [
    ...closedRanges,
    ...closedHosts,
    ...[options.network, ...options.attached].map(formatRange),
  ];
  const users = [...new Set([0, options.perchUid])].join(', ');
  const dns = resolverRules(options.uplinkDns, slots);
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  set ${networkSet} {
    type ipv4_addr; flags interval;
    elements = { ${formatRange(options.network)} }
  }
  set closed {
    type ipv4_addr; flags interval; auto-merge;
    elements = { ${closed.join(', ')} }
  }
  set refused {
    type ipv4_addr; size ${maxSlots}; flags dynamic; timeout 1m;
  }
  chain entry {
    type filter hook prerouting priority mangle; policy accept;
    iifname ${slots} goto from_slot
  }
  chain from_slot {
    meta nfproto != ipv4 drop
    fib saddr . iif oif missing drop
    ct state invalid drop
    ct direction reply ct state established,related accept
    ${dns.entry}
    fib daddr type != unicast goto refuse_to_slot
    ip daddr @closed goto refuse_to_slot
  }
  chain refuse_to_slot {
    add @refused { ip saddr limit rate over ${maxRefusals}/second burst ${maxRefusals} packets } drop
    ${refusal}
  }
  chain destination {
    type nat hook prerouting priority dstnat; policy accept;
    ${dns.destination}
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname ${slots} goto to_host
  }
  chain to_host {
    ct direction reply ct state established,related accept
    ${dns.deliver}
    drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname ${slots} jump forward_from_slot
    oifname ${slots} jump forward_to_slot
    ip daddr @${networkSet} oifname != ${slots} drop
  }
  chain forward_from_slot {
    oifname ${slots} drop
    tcp flags syn tcp option maxseg size set rt mtu
    ${dns.deliver}
    ip daddr @closed drop
  }
  chain forward_to_slot {
    ct state != { established, related } drop
    tcp flags syn tcp option maxseg size set rt mtu
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname ${slots} goto host_to_slot
    ip daddr @${networkSet} oifname != "lo" goto refuse
  }
  chain host_to_slot {
    ct state established,related accept
    meta skuid { ${users} } accept
    goto refuse
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx host-unreachable
  }
  chain source {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @${networkSet} oifname != "lo" oifname != ${slots} masquerade
  }
}
`;
}

/** The resolver may have a private address, or be a program on this host: it is let through by name. */
function resolverRules(uplinkDns: string | undefined, slots: string) {
  if (uplinkDns === undefined) return { entry: '', destination: '', deliver: '' };
  const question = 'meta l4proto { tcp, udp } th dport 53';
  return {
    entry: `fib daddr . iif type local ip daddr @${networkSet} ${question} accept`,
    destination: `iifname ${slots} ip daddr @${networkSet} ${question} dnat ip to ${uplinkDns}`,
    deliver: `ct status dnat ip daddr ${uplinkDns} ${question} accept`,
  };
}

export function removeHostRules(instance: string): string {
  const { table } = names(instance);
  return `table inet ${table}\ndelete table inet ${table}\n`;
}
