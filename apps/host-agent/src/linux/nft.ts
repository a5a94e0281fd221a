/** nftables by nft(8): a script is one transaction, all of it or nothing. */
import { RunError } from '@perch/node-kit';
import { runIn } from './netns.ts';

export async function nft(script: string, namespace?: string): Promise<void> {
  await runIn(namespace, 'nft', ['-f', '-'], { input: script });
}

/** Whether the kernel takes a script; nothing is changed. */
export async function nftAccepts(script: string): Promise<boolean> {
  try {
    await runIn(undefined, 'nft', ['--check', '-f', '-'], { input: script });
    return true;
  } catch (error) {
    if (error instanceof RunError && error.outcome === 'failed') return false;
    throw error;
  }
}

/** An object of libnftables-json(5): one key, its kind. */
export type NftObject = Record<string, unknown>;

/** The list of `nft -j …`, without the line about its version. */
export async function nftList(args: readonly string[]): Promise<NftObject[]> {
  const { stdout } = await runIn(undefined, 'nft', ['-j', ...args]);
  const { nftables } = JSON.parse(stdout) as { nftables: NftObject[] };
  return nftables.filter((object) => !('metainfo' in object));
}
