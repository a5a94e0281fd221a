/** Signals that cannot hit another process, and the identity of the process behind a socket. */
import type { Socket } from 'node:net';
import koffi from 'koffi';
import { SystemCallError } from './ffi.ts';
import { type ProcessRef, readProcess } from './process.ts';

const libc = koffi.load('libc.so.6');
const syscall = libc.func('long syscall(long number, ...)');
const close = libc.func('int close(int fd)');
const getsockopt = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
);

/** The same on every architecture (asm-generic/unistd.h). */
const pidfdSendSignal = 424;
const pidfdOpen = 434;
const solSocket = 1;
const soPeerCred = 17;

/**
 * Sends a signal to the process that was started then.
 *
 * A pid is free for reuse as soon as its process is reaped, and a test of the start time followed by kill(2)
 * leaves a gap. A pidfd names one process for good: opened first, the start time then tells which one it is.
 * @returns false when that process has ended
 */
export function signalProcess(process: ProcessRef, signal: number): boolean {
  const fd: number = syscall(pidfdOpen, 'int', process.pid, 'uint', 0);
  if (fd < 0) {
    if (isNoSuchProcess()) return false;
    throw failure('pidfd_open');
  }
  try {
    const now = readProcess(process.pid);
    if (now?.startTime !== process.startTime) return false;
    const sent = syscall(pidfdSendSignal, 'int', fd, 'int', signal, 'void *', null, 'uint', 0);
    if (sent === 0) return true;
    if (isNoSuchProcess()) return false;
    throw failure('pidfd_send_signal');
  } finally {
    close(fd);
  }
}

/**
 * Who is at the other end of a connected unix socket: the process and user at the time of its listen(2), or of
 * its connect(2), from the kernel (SO_PEERCRED, unix(7)). A path in another user's directory says nothing.
 */
export function peerOf(socket: Socket): { pid: number; uid: number; gid: number } {
  const fd = fileDescriptor(socket);
  const value = Buffer.alloc(12);
  if (getsockopt(fd, solSocket, soPeerCred, value, [value.length]) !== 0) throw failure('getsockopt');
  return { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) };
}

/** Node has no public way to it; `_handle.fd` has been there since 0.x and is checked here. */
function fileDescriptor(socket: Socket): number {
  const fd = (socket as Socket & { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd !== 'number' || fd < 0) throw new Error('The socket has no descriptor');
  return fd;
}

function isNoSuchProcess(): boolean {
  return koffi.errno() === koffi.os.errno.ESRCH;
}

function failure(call: string): SystemCallError {
  return new SystemCallError(call, koffi.errno());
}
