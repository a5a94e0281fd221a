/** Finds the socket of a monitor in a directory that the monitor's own user may write to. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { connect as connectSocket, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { peerOf } from '../../../linux/index.ts';
import { QmpClient, type QmpOptions } from './client.ts';

export interface QmpAddress {
  dir: string;
  socketName: string;
  /** Who must listen there. */
  pid: number;
  uid: number;
}

/**
 * Tries until QEMU listens, `signal` aborts, or something else answers.
 *
 * The directory is opened first and the socket reached through /proc/self/fd, so that the length of the data
 * directory's path does not matter (a socket address has 108 bytes). A monitor that was taken over could put
 * a link to another socket there, and have a root process send its commands to it: who listens is checked
 * before a byte is sent.
 */
export async function connectQmp(
  at: QmpAddress,
  signal: AbortSignal,
  options: QmpOptions = {},
): Promise<QmpClient> {
  const dir = await open(at.dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const socket = await untilListening(`/proc/self/fd/${dir.fd}/${at.socketName}`, signal);
    try {
      requireMonitor(socket, at);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return await QmpClient.open(socket, options);
  } finally {
    await dir.close();
  }
}

function requireMonitor(socket: Socket, { dir, pid, uid }: QmpAddress): void {
  const peer = peerOf(socket);
  if (peer.pid === pid && peer.uid === uid) return;
  throw new Error(`Process ${peer.pid} of user ${peer.uid} listens in ${dir}, not the VM monitor`);
}

async function untilListening(path: string, signal: AbortSignal): Promise<Socket> {
  for (let waitMs = 2; ; waitMs = Math.min(waitMs + 1, 20)) {
    signal.throwIfAborted();
    try {
      return await connectOnce(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error;
    }
    await sleep(waitMs, undefined, { signal });
  }
}

function connectOnce(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
