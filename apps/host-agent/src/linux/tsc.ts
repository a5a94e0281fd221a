/**
 * The rate of this machine's time stamp counter.
 *
 * It is measured, since nothing reports it everywhere: /proc/cpuinfo gives the current frequency of a core
 * where that varies, the kernel's log rotates and may be closed, the perf mmap page has it only where the
 * kernel's own clock is the counter (not in a KVM guest), CPUID leaf 15h is empty on AMD and in most VMs.
 * A guest sees exactly this counter, since QEMU's TCG answers RDTSC with the host's counter.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';

/** rdtsc; shl rdx, 32; or rax, rdx; ret */
const code = Buffer.from([0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3]);
const page = 4096;
const [protRead, protWrite, protExec] = [1, 2, 4];
const mapPrivateAnonymous = 0x22;

/**
 * Takes a quarter of a second, without blocking; good to a few parts in a million.
 * @returns undefined where there is no such counter or no page may be made executable
 */
export async function measureTscKhz(windowMs = 250): Promise<number | undefined> {
  if (process.arch !== 'x64') return undefined;
  using counter = openCounter();
  if (!counter) return undefined;
  const begin = sample(counter.read);
  await sleep(windowMs);
  const end = sample(counter.read);
  return Math.round((Number(end.ticks - begin.ticks) * 1e6) / Number(end.ns - begin.ns));
}

/** One instant on both clocks: the tightest of several tries, since a preemption widens one of them. */
function sample(read: () => bigint): { ticks: bigint; ns: bigint } {
  let best = { ticks: 0n, ns: 0n, width: 2n ** 63n };
  for (let i = 0; i < 100; i++) {
    const before = process.hrtime.bigint();
    const ticks = read();
    const after = process.hrtime.bigint();
    const width = after - before;
    if (width < best.width) best = { ticks, ns: before + width / 2n, width };
  }
  return best;
}

/**
 * Ten bytes of machine code in a page of its own, which is writable only before it is executable.
 * Sound: the code reads a register pair that user mode may read (CR4.TSD is clear), and touches no memory.
 */
function openCounter(): ({ read: () => bigint } & Disposable) | undefined {
  const libc = koffi.load('libc.so.6');
  const mmap = libc.func(
    'void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset)',
  );
  const mprotect = libc.func('int mprotect(void *at, size_t length, int protection)');
  const munmap = libc.func('int munmap(void *at, size_t length)');
  const memcpy = libc.func('void *memcpy(void *to, const uint8_t *from, size_t length)');

  const at = mmap(null, page, protRead | protWrite, mapPrivateAnonymous, -1, 0);
  if (BigInt.asIntN(64, koffi.address(at)) === -1n) return undefined;
  const unmap = () => void munmap(at, page);
  memcpy(at, code, code.length);
  if (mprotect(at, page, protRead | protExec) !== 0) {
    unmap();
    return undefined;
  }
  const rdtsc = koffi.decode(at, koffi.proto('uint64_t', []));
  return { read: () => BigInt(rdtsc()), [Symbol.dispose]: unmap };
}
