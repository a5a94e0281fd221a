import { listNamespaces } from '../../linux/index.ts';
import { listInstances, listLinks } from '../inventory.ts';
import { names } from '../slots.ts';

/** Resources of an instance that exist on this machine, one a line, for leak checks. */
export async function leftovers(instance: string): Promise<string[]> {
  const { namespacePrefix, vethPrefix, table } = names(instance);
  const [links, instances] = [await listLinks(vethPrefix), await listInstances()];
  return [
    ...listNamespaces(namespacePrefix).map((name) => `network namespace ${name}`),
    ...links.map((name) => `link ${name}`),
    ...(instances.includes(instance) ? [`nftables table inet ${table}`] : []),
  ];
}
