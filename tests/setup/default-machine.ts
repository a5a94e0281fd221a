import { newSandbox, sharedPerch } from './sandbox.ts';

/**
 * Boots the machine that a sandbox of E2B's API has, once: its clients wait 60 s for a create, and under emulation
 * on a busy machine a boot may take longer. Later creates go on from it.
 */
export async function bootDefaultMachine(): Promise<void> {
  await using _ = await newSandbox(sharedPerch(), { memory_mb: 512, disk_mb: 5120 });
}
