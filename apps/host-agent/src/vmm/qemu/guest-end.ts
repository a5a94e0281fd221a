/** How a guest ended by itself, as one sentence for a person. Pure. */
import { quoted } from '@perch/node-kit';
import { guestRestarted, lastFrom } from '../process/index.ts';

/**
 * @param reason `ShutdownCause` in qapi/run-state.json; undefined when nobody was listening
 * @param console the last of the guest's console. Written by the guest: shown bounded and escaped
 */
export function guestEnd(reason: string | undefined, console: Buffer): string {
  if (reason === 'guest-shutdown') return 'The guest powered off';
  const panic = lastFrom(console, 'Kernel panic');
  if (panic !== undefined) return `The guest kernel panicked: ${quoted(panic)}`;
  if (reason === 'guest-panic') return 'The guest kernel panicked';
  if (reason === 'guest-reset') return guestRestarted;
  if (reason === undefined) return 'The guest powered off or restarted';
  return `The VM monitor was told to stop (${quoted(reason)})`;
}
