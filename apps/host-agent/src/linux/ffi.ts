/** The C library calls that the files beside this one share. */
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

const setnsCall = libc.func('int setns(int fd, int nstype)');
const ioctlPointer = libc.func('ioctl', 'int', ['int', 'ulong', 'void *']);
const ioctlNumber = libc.func('ioctl', 'int', ['int', 'ulong', 'long']);
const flockCall = libc.func('int flock(int fd, int operation)');
const iovec = koffi.struct('perch_iovec', { base: 'void *', length: 'size_t' });
const vector = koffi.pointer(iovec);
const memoryCall = (name: string) =>
  libc.func(name, 'long', ['int', vector, 'ulong', 'void *', 'ulong', 'ulong']);
const readvCall = memoryCall('process_vm_readv');
const writevCall = memoryCall('process_vm_writev');
const ifNameToIndex = libc.func('unsigned int if_nametoindex(const char *name)');

/** sched.h */
const CLONE_NEWNET = 0x40000000;
/** sys/file.h */
const LOCK_EX = 2;
const LOCK_NB = 4;

const errnoNames = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));

/** A system call that failed. `code` is the name of the errno, as in Node's own errors. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = errnoNames.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

function check(call: string, result: number): void {
  if (result < 0) throw new SystemCallError(call, koffi.errno());
}

/** Moves the calling thread into a network namespace. Only netns.ts calls this, which knows the way back. */
export function setNetworkNamespace(fd: number): void {
  check('setns', setnsCall(fd, CLONE_NEWNET));
}

/**
 * @param argument a buffer that the kernel reads and writes, or a plain number, as the request wants
 * @returns 0, or what the request gives
 */
export function ioctl(name: string, fd: number, request: number, argument: Buffer | number): number {
  const result =
    typeof argument === 'number' ? ioctlNumber(fd, request, argument) : ioctlPointer(fd, request, argument);
  check(name, result);
  return result;
}

/** Takes the lock of an open file, which ends with the descriptor. @returns false when another holds it. */
export function tryLockFile(fd: number): boolean {
  if (flockCall(fd, LOCK_EX | LOCK_NB) === 0) return true;
  const errno = koffi.errno();
  if (errnoNames.get(errno) === 'EAGAIN' || errnoNames.get(errno) === 'EWOULDBLOCK') return false;
  throw new SystemCallError('flock', errno);
}

/** Index of a link in the network namespace of the calling thread, undefined when there is none. */
export function linkIndex(name: string): number | undefined {
  return ifNameToIndex(name) || undefined;
}

/**
 * Copies memory of another process into `local`. `remote`: pairs of address and length.
 *
 * Privileged: reads what any process of any user holds; callers name only mappings of a VM's memory file.
 *
 * Synchronous, since an asynchronous call holds no reference to its arrays: one that waits for a thread would
 * find addresses in them that the garbage collector gave to somebody else. Callers copy a few MiB at a time.
 * @returns the bytes copied, which may be fewer
 */
export function processVmReadv(pid: number, local: Uint8Array, remote: BigUint64Array): number {
  return memoryTransfer('process_vm_readv', readvCall, pid, local, remote);
}

/** As `processVmReadv`, the other way. */
export function processVmWritev(pid: number, local: Uint8Array, remote: BigUint64Array): number {
  return memoryTransfer('process_vm_writev', writevCall, pid, local, remote);
}

function memoryTransfer(
  name: string,
  call: typeof readvCall,
  pid: number,
  local: Uint8Array,
  remote: BigUint64Array,
): number {
  const result = call(pid, [{ base: local, length: local.length }], 1, remote, remote.length / 2, 0);
  check(name, result);
  return result;
}
