/** The host agent of a data directory, as root asks it by itself. */
import { HostSocket } from '@perch/host-client';
import { dataPaths } from '@perch/protocol';
import { CliError } from '../errors.ts';

/** No host agent is there, or it went away before it answered. */
export class HostGone extends CliError {
  override readonly name = 'HostGone';

  constructor(cause: Error) {
    super(
      `perch-host does not answer (${cause.message}).`,
      'See whether Perch runs: `perch doctor`; then try it again.',
      { cause },
    );
  }
}

/** Each call throws HostGone when nobody answers any more. */
export function hostSocket(dataDir: string): HostSocket {
  return new HostSocket({ path: dataPaths(dataDir).hostSocket, gone: (cause) => new HostGone(cause) });
}
