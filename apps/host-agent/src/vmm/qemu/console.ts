/** The guest's console, which QEMU keeps in a ring buffer. */
import type { ConsoleTail } from '../process/index.ts';
import { consoleBytes, ids } from './arguments.ts';
import { isObject, type QmpClient } from './qmp/index.ts';

/**
 * Moves what QEMU holds into `tail`. A read of the ring buffer empties it, so what was read is kept here.
 * @throws QmpError
 */
export async function drainConsole(qmp: QmpClient, tail: ConsoleTail, timeoutMs: number): Promise<void> {
  const read = { device: ids.console, size: consoleBytes, format: 'base64' };
  const value = await qmp.execute('ringbuf-read', read, timeoutMs);
  // Bytes, of which the guest chose every one: never text for a parser of ours.
  if (typeof value === 'string') tail.append(Buffer.from(value, 'base64'));
  else throw new Error(`ringbuf-read gave ${isObject(value) ? 'an object' : typeof value}`);
}
