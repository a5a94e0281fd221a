/** Connects to the unix socket of a process that is just starting. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '@perch/node-kit';

/**
 * Tries until somebody listens. The file alone says nothing: it is there from bind(2) on, and connect(2) is refused
 * until listen(2), as it is for ever when the process that made it has ended.
 * @param longestPauseMs between two tries, which are frequent at first
 * @throws what `signal` was aborted with; the error of connect(2) when it is another
 */
export async function connectWhenListening(
  path: string,
  signal: AbortSignal,
  longestPauseMs = 20,
): Promise<Socket> {
  for (let pauseMs = 2; ; pauseMs++) {
    signal.throwIfAborted();
    try {
      return await connectOnce(path);
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ECONNREFUSED')) throw error;
    }
    // The error of an aborted sleep is not what the signal was aborted with.
    await sleep(Math.min(pauseMs, longestPauseMs), undefined, { signal }).catch(() => {});
  }
}

function connectOnce(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
