/** A unix socket that another process is to listen at (unix(7)). */
import { chownSync, closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, const uint8_t *address, uint32_t length)');
const listen = libc.func('int listen(int fd, int backlog)');

/** sys/socket.h */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/**
 * Makes a stream socket that listens. The directory is opened first, so that the length of its path does not matter.
 * @param uid who alone may connect
 * @returns its descriptor
 * @throws SystemCallError EADDRINUSE when there is something of that name
 */
export function listenAt(dir: string, name: string, uid: number): number {
  const opened = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const path = `/proc/self/fd/${opened}/${name}`;
    const fd: number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) throw new SystemCallError('socket', koffi.errno());
    try {
      const family = Buffer.alloc(2);
      family.writeUInt16LE(AF_UNIX);
      const address = Buffer.concat([family, Buffer.from(`${path}\0`)]);
      if (bind(fd, address, address.length) < 0) throw new SystemCallError('bind', koffi.errno());
      chownSync(path, uid, uid);
      if (listen(fd, 1) < 0) throw new SystemCallError('listen', koffi.errno());
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } finally {
    closeSync(opened);
  }
}
