/** Finds the socket of a monitor in a directory that the monitor's own user may write to. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { connectWhenListening, peerOf } from '../../../linux/index.ts';
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
    const socket = await connectWhenListening(`/proc/self/fd/${dir.fd}/${at.socketName}`, signal);
    try {
      requireMonitor(socket, at);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return await QmpClient.open(socket, signal, options);
  } finally {
    await dir.close();
  }
}

function requireMonitor(socket: Socket, { dir, pid, uid }: QmpAddress): void {
  const peer = peerOf(socket);
  if (peer.pid === pid && peer.uid === uid) return;
  throw new Error(`Process ${peer.pid} of user ${peer.uid} listens in ${dir}, not the VM monitor`);
}
