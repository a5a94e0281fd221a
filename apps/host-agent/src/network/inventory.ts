/** All that exists on this machine under the names of an instance. */
import { ipJson, listNamespaces, nftList } from '../linux/index.ts';
import { isInstance, names, numberIn, tablePrefix } from './slots.ts';

interface IpLink {
  ifname: string;
}

interface NftTable {
  family: string;
  name: string;
}

/** Names of links that begin like that. */
export async function listLinks(prefix: string): Promise<string[]> {
  const links = await ipJson<IpLink>(['link', 'show']);
  return links.map(({ ifname }) => ifname).filter((name) => name.startsWith(prefix));
}

/** Numbers of all slots of which something exists. */
export async function existingSlots(instance: string): Promise<number[]> {
  const { namespacePrefix, vethPrefix } = names(instance);
  const found = [
    ...listNamespaces(namespacePrefix).map((name) => numberIn(name, namespacePrefix)),
    ...(await listLinks(vethPrefix)).map((name) => numberIn(name, vethPrefix)),
  ];
  return [...new Set(found)].filter((number) => number !== undefined);
}

/** Tables by a name of an instance, but for the one that it has, as `family name`. */
export async function strayTables(instance: string): Promise<string[]> {
  const { table: own } = names(instance);
  const listed = (await nftList(['list', 'tables'])).map(({ table }) => table as NftTable | undefined);
  return listed
    .filter((table) => table !== undefined)
    .filter(({ name }) => name === own || name.startsWith(`${own}-`))
    .filter(({ family, name }) => family !== 'inet' || name !== own)
    .map(({ family, name }) => `${family} ${name}`);
}

/** Instances that have a table on this machine. */
export async function listInstances(): Promise<string[]> {
  const tables = await nftList(['list', 'tables', 'inet']);
  return tables
    .map(({ table }) => (table as { name?: string } | undefined)?.name ?? '')
    .filter((name) => name.startsWith(tablePrefix))
    .map((name) => name.slice(tablePrefix.length))
    .filter(isInstance);
}
