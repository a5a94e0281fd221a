import { writeFile } from 'node:fs/promises';

/** Where the shared Perch answers questions of DNS. Programs ask no other port. */
export const domainDns = { address: '127.53.53.53', port: 53 } as const;

/** In the network of the tests every user may listen there, as on a machine whose administrator allows it. */
export async function openDnsPort(): Promise<void> {
  await writeFile('/proc/sys/net/ipv4/ip_unprivileged_port_start', String(domainDns.port));
}
