/**
 * A guest for tests: an initramfs whose only file is an /init of some hundred bytes, assembled here. It boots
 * as fast as the kernel does and does exactly what a test says.
 * Sources: elf(5), syscalls(2) of x86-64, early-userspace/buffer-format.rst.
 */

/** The steps of /init, one after the other. */
export type Step =
  | { say: string }
  /** Says it again and again, as fast as the console takes it. */
  | { repeat: string }
  | 'wait for ever'
  | 'power off'
  | 'restart'
  /** PID 1 may not end: the kernel panics. */
  | 'exit';

const loadAddress = 0x400000;
const headerBytes = 64 + 56;

/** @returns the bytes of an initramfs */
export function testGuest(...steps: Step[]): Buffer {
  return cpio('init', elf(steps));
}

function elf(steps: readonly Step[]): Buffer {
  const parts: Buffer[] = [];
  let at = loadAddress + headerBytes;
  for (const step of steps) {
    const part = assemble(step, at);
    parts.push(part);
    at += part.length;
  }
  const code = Buffer.concat(parts);
  const header = Buffer.alloc(headerBytes);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // 64-bit, little-endian
  header.writeUInt16LE(2, 16); // executable
  header.writeUInt16LE(62, 18); // x86-64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(loadAddress + headerBytes), 24); // entry
  header.writeBigUInt64LE(64n, 32); // program headers
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64); // PT_LOAD
  header.writeUInt32LE(5, 68); // read, execute
  header.writeBigUInt64LE(BigInt(loadAddress), 80);
  header.writeBigUInt64LE(BigInt(loadAddress), 88);
  header.writeBigUInt64LE(BigInt(headerBytes + code.length), 96);
  header.writeBigUInt64LE(BigInt(headerBytes + code.length), 104);
  header.writeBigUInt64LE(4096n, 112);
  return Buffer.concat([header, code]);
}

function assemble(step: Step, at: number): Buffer {
  if (step === 'wait for ever') return loop(systemCall(34));
  if (step === 'exit') return systemCall(60, 7);
  if (step === 'power off') return systemCall(169, 0xfee1dead, 672274793, 0x4321fedc);
  if (step === 'restart') return systemCall(169, 0xfee1dead, 672274793, 0x01234567);
  if ('say' in step) return write(step.say, at);
  return loop(write(step.repeat, at));
}

/** The text, jumped over, and write(1, text, length). */
function write(text: string, at: number): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([jump(bytes.length), bytes, systemCall(1, 1, at + 5, bytes.length)]);
}

function loop(code: Buffer): Buffer {
  return Buffer.concat([code, jump(-code.length - 5)]);
}

/** jmp rel32: 5 bytes */
function jump(distance: number): Buffer {
  const code = Buffer.from([0xe9, 0, 0, 0, 0]);
  code.writeInt32LE(distance, 1);
  return code;
}

/** mov eax, number; mov rdi|rsi|rdx, value …; syscall */
function systemCall(number: number, ...values: number[]): Buffer {
  const registers = [
    [0x48, 0xbf],
    [0x48, 0xbe],
    [0x48, 0xba],
  ];
  const moves = values.map((value, i) => {
    const immediate = Buffer.alloc(8);
    immediate.writeBigUInt64LE(BigInt(value));
    return Buffer.concat([Buffer.from(registers[i] ?? []), immediate]);
  });
  const eax = Buffer.alloc(5);
  eax[0] = 0xb8;
  eax.writeUInt32LE(number, 1);
  return Buffer.concat([eax, ...moves, Buffer.from([0x0f, 0x05])]);
}

/** An archive of one executable. */
function cpio(name: string, content: Buffer): Buffer {
  const member = (path: string, mode: number, body: Buffer) => {
    const fields = [1, mode, 0, 0, 1, 0, body.length, 0, 0, 0, 0, path.length + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${path}\0`;
    return Buffer.concat([pad(Buffer.from(header)), pad(body)]);
  };
  return Buffer.concat([member(name, 0o100755, content), member('TRAILER!!!', 0, Buffer.alloc(0))]);
}

function pad(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
