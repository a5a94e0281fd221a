import { spawn } from 'node:child_process';
import { pbkdf2 } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempDisposable, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { changedPages, fileMappings, parseMappings, readMemory, writeMemory } from './process-memory.ts';

const pages = 512;
/** Maps a file of ones privately, writes 2 at the start of every other page, and tells what is at a page. */
const program = `
import mmap, sys
file = open(sys.argv[1], 'rb')
memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
for page in range(0, ${pages}, 2): memory[page * 4096] = 2
print('ready', flush=True)
for line in sys.stdin: print(memory[int(line) * 4096], flush=True)
`;

async function mapped() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-memory-'));
  const file = join(dir.path, 'file');
  await writeFile(file, Buffer.alloc(pages * 4096, 1));
  const child = spawn('python3', ['-c', program, file], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const { pid } = child;
  if (pid === undefined) throw new Error('python3 did not start');
  const mappings = fileMappings(pid, await stat(file, { bigint: true }));
  return {
    pid,
    mappings,
    async at(page: number): Promise<number> {
      child.stdin.write(`${page}\n`);
      return Number(String((await once(child.stdout, 'data'))[0]));
    },
    async [Symbol.asyncDispose]() {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
      await dir.remove();
    },
  };
}

const odd = Array.from({ length: pages / 2 }, (_, i) => ({ offset: i * 8192, length: 4096 }));

/** The kernel writes a line end in a path as `\\012`. */
const path = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', '\\012'));

property.prop([fc.array(path), fc.string()])(
  'mappings of a file are found among those of others, whatever these are called',
  (paths, rest) => {
    const ours = '7f0000001000-7f0000003000 rw-p 00001000 fe:01 4242                       /vms/a/memfile';
    const others = paths.map((name, i) => `7f00${i}000-7f00${i}fff r--p 00000000 fe:01 77   ${name}`);
    const found = [{ address: 0x7f0000001000, length: 8192, fileOffset: 4096 }];
    const file = { dev: 0xfe01n, ino: 4242n };
    const text = (lines: string[]) => parseMappings(lines.join('\n'), file);
    expect(text([...others, ours, ...others])).toEqual(found);
    expect(text([...others, rest.replaceAll('4242', '')])).toEqual([]);
  },
);

test('exactly the pages that a process has written to are no longer those of the file', async () => {
  await using it = await mapped();
  expect(it.mappings).toEqual([{ address: expect.any(Number), length: pages * 4096, fileOffset: 0 }]);
  expect(changedPages(it.pid, it.mappings)).toEqual(odd);
});

test('memory is read and written by offsets of the file', async () => {
  await using it = await mapped();
  const two = [
    { offset: 4096, length: 8192 },
    { offset: 40_960, length: 4096 },
  ];
  const bytes = Buffer.alloc(12_288);
  await readMemory(it.pid, it.mappings, two, bytes);
  expect([bytes[0], bytes[4096], bytes[4097], bytes[8192]]).toEqual([1, 2, 1, 2]);
  await writeMemory(it.pid, it.mappings, [{ offset: 12_288, length: 4096 }], Buffer.alloc(4096, 7));
  expect([await it.at(3), await it.at(4)]).toEqual([7, 2]);
  expect(changedPages(it.pid, it.mappings)).toContainEqual({ offset: 8192, length: 12_288 });
  const past = [{ offset: (pages - 1) * 4096, length: 8192 }];
  await expect(readMemory(it.pid, it.mappings, past, Buffer.alloc(8192))).rejects.toThrow(RangeError);
});

test('garbage that is collected meanwhile and threads that are busy change nothing', async () => {
  await using it = await mapped();
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const bytes = Buffer.alloc(odd.length * 4096);
  for (let round = 0; round < 30; round++) {
    bytes.fill(0);
    for (let i = 0; i < 4; i++) pbkdf2('a', 'b', 20_000, 64, 'sha512', () => {});
    const reading = readMemory(it.pid, it.mappings, odd, bytes);
    collect();
    const junk = Array.from({ length: 50 }, () => new BigUint64Array(odd.length * 2).fill(0x1234567890n));
    await reading;
    expect(junk).toHaveLength(50);
    expect(odd.every((_, i) => bytes[i * 4096] === 2 && bytes[i * 4096 + 1] === 1)).toBe(true);
  }
});
