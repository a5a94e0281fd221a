import { randomUUID } from 'node:crypto';
import type { CreateSandbox, Sandbox } from '@perch/protocol';
import type { Perch } from '@perch/sdk';
import pc from 'picocolors';
import { interruptible } from './interrupt.ts';

/** A create that is broken off makes one nevertheless: its answer is waited for, and the sandbox removed. */
export async function createdOrNone(perch: Perch, request: CreateSandbox): Promise<Sandbox> {
  const idempotencyKey = randomUUID();
  return interruptible(async (signal) => {
    try {
      return await perch.sandboxes.create(request, { idempotencyKey, signal });
    } catch (error) {
      if (signal.aborted) {
        process.stderr.write(pc.dim('Removing the sandbox; another Ctrl-C leaves it.\n'));
        const made = await perch.sandboxes.create(request, { idempotencyKey }).catch(() => undefined);
        if (made) await perch.sandboxes.delete(made.id);
      }
      throw error;
    }
  });
}
