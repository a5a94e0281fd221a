/** The resolver that questions of guests go to. */
import { readFile } from 'node:fs/promises';
import { knownRange, parseAddress, rangeAround } from './cidr.ts';

/** systemd-resolved lists the real ones in the first; the second then has only its own loopback address. */
const resolverFiles = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf'];
const loopback = knownRange('127.0.0.0/8');

/** The first IPv4 name server of this machine that is not on its loopback; undefined when there is none. */
export async function findUplinkDns(files: readonly string[] = resolverFiles): Promise<string | undefined> {
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const found = text
      .split('\n')
      .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? '')
      .find(isUsableResolver);
    if (found !== undefined) return found;
  }
  return undefined;
}

export function isUsableResolver(text: string): boolean {
  const address = parseAddress(text);
  if (address === undefined || address === 0) return false;
  return rangeAround(address, loopback.prefix).base !== loopback.base;
}
