import { chmod, lstat, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { saveArchive } from './archive-out.ts';
import { place } from './testing/destination.ts';
import { archiveEnd, archiveOf, entryOf, type Said } from './testing/tar.ts';

const seconds = 981_173_106;
const root: Said = { name: './', type: '5', mode: 0o755 };

const quiet = { leftOut: () => {}, untimed: () => {}, signal: new AbortController().signal };

async function save(archive: Buffer, to: string, signal = new AbortController().signal) {
  const leftOut: string[] = [];
  async function* pieces() {
    for (let at = 0; at < archive.length; at += 700) yield archive.subarray(at, at + 700);
  }
  await saveArchive({ ...quiet, leftOut: (path) => leftOut.push(path), signal }, pieces(), '/s/', to);
  return leftOut;
}

test('files, directories and links come with their modes and times', async () => {
  await using here = await place();
  const archive = archiveOf(
    root,
    { name: 'up', type: '2', target: '../../outside' },
    { name: 'sub/', type: '5', mode: 0o500 },
    { name: 'sub/empty', mode: 0o600 },
    { name: 'sub/run', content: 'content'.repeat(200), mode: 0o4755 },
    { name: 'pipe', type: '6' },
    { name: 'sub/shut/', type: '5', mode: 0 },
    { name: 'sub/shut/in', content: 'x' },
    { name: Buffer.from('caf\xe9', 'latin1') },
  );
  expect(await save(archive, here.to)).toEqual(['/s/pipe']);
  expect(await readdir(here.to, 'latin1')).toEqual(['caf\xe9', 'sub', 'up']);
  expect(await readlink(join(here.to, 'up'))).toBe('../../outside');
  expect(await readFile(join(here.to, 'sub/run'), 'utf8')).toBe('content'.repeat(200));
  for (const [path, mode] of [
    ['', 0o755],
    ['sub', 0o500],
    ['sub/empty', 0o600],
    ['sub/run', 0o755],
    ['sub/shut', 0],
  ] as const) {
    const { mode: bits, mtimeMs } = await stat(join(here.to, path));
    expect([path, bits & 0o7777, mtimeMs]).toEqual([path, mode & ~process.umask(), seconds * 1000]);
  }
  await here.expectUntouched(['to']);
  for (const path of ['sub', 'sub/shut']) await chmod(join(here.to, path), 0o700);
});

const link: Said = { name: 'x', type: '2', target: '../../outside' };
test.each<[string, Said[]]>([
  ['does not begin with its directory', [{ name: 'a' }]],
  ['begins with a file', [{ name: '.', content: 'x' }]],
  ['is of nothing', []],
  ['goes up', [root, { name: '../x' }]],
  ['goes up as a directory', [root, { name: '../', type: '5' }, { name: '../x' }]],
  ['goes down and up', [root, { name: 'a/', type: '5' }, { name: 'a/../../x' }]],
  ['is absolute', [root, { name: '/tmp/x' }]],
  ['is the root', [root, { name: '/', type: '5' }]],
  ['is its directory again', [root, root]],
  ['is empty', [root, { name: '' }]],
  ['has two slashes', [root, { name: 'a/', type: '5' }, { name: 'a//b' }]],
  ['has a slash at its end', [root, { name: 'a/' }]],
  ['is too long', [root, { name: 'n'.repeat(256) }]],
  ['is in no directory', [root, { name: 'a/b' }]],
  ['is in a file', [root, { name: 'a' }, { name: 'a/b' }]],
  ['is in a link', [root, link, { name: 'x/kept' }]],
  [
    'is that of a link before it, as a directory',
    [root, link, { name: 'x/', type: '5' }, { name: 'x/kept' }],
  ],
  ['is that of a link before it, as a file', [root, link, { name: 'x' }]],
  ['is that of a file before it', [root, { name: 'x' }, { name: 'x' }]],
  ['is that of a link twice', [root, link, link]],
  ['is a hard link', [root, { name: 'x', type: '1', target: '/etc/passwd' }]],
  ['states more than there is', [root, { name: 'x', size: 4096 }]],
])('a name that %s writes nothing outside, and leaves nothing', async (_, entries) => {
  await using here = await place();
  await expect(save(archiveOf(...entries), here.to)).rejects.toThrow();
  await here.expectUntouched([]);
});

test('times before 1970 and after 2038 come as they are', async () => {
  await using here = await place();
  const [before, after] = ['19 mtime=-5000.500\n', '21 mtime=5000000000.0\n'];
  const archive = archiveOf(
    { ...root, pax: before },
    { name: 'a', pax: before },
    { name: 'b', type: '2', target: 'a', pax: before },
    { name: 'c', pax: after },
  );
  await save(archive, here.to);
  for (const [path, ms] of [
    ['', -5_000_500],
    ['a', -5_000_500],
    ['b', -5_000_500],
    ['c', 5e12],
  ] as const) {
    expect([path, (await lstat(join(here.to, path))).mtimeMs]).toEqual([path, ms]);
  }
});

test('a time that the file system does not take is left out, and said', async () => {
  await using here = await place();
  const pax = '30 mtime=99999999999999999999\n';
  const archive = archiveOf(
    { ...root, pax },
    { name: 'a', pax, content: 'content' },
    { name: 'b', type: '2', target: 'a', pax },
  );
  const untimed: string[] = [];
  async function* whole() {
    yield archive;
  }
  await saveArchive({ ...quiet, untimed: (path) => untimed.push(path) }, whole(), '/s', here.to);
  expect(untimed).toEqual(['/s/a', '/s/b', '/s/']);
  expect(await readFile(join(here.to, 'b'), 'utf8')).toBe('content');
});

test('a time of which the file system has only the nearest is said', async () => {
  await using here = await place();
  const times = [16_000_000_000, -3_000_000_000];
  const pax = (seconds: number) => {
    const text = ` mtime=${seconds}\n`;
    return `${text.length + 2}${text}`;
  };
  const entries = times.map((seconds): Said => ({ name: `${seconds}`, pax: pax(seconds) }));
  const untimed: string[] = [];
  async function* whole() {
    yield archiveOf(root, ...entries);
  }
  await saveArchive({ ...quiet, untimed: (path) => untimed.push(path) }, whole(), '/s', here.to);
  for (const seconds of times) {
    const { mtimeMs } = await stat(join(here.to, `${seconds}`));
    expect(untimed.includes(`/s/${seconds}`)).toBe(mtimeMs !== seconds * 1000);
  }
});

test('a copy that is broken off while it makes its links leaves nothing', async () => {
  await using here = await place();
  const reason = new Error('Interrupted');
  const interrupted = new AbortController();
  async function* pieces() {
    yield archiveOf(
      root,
      ...Array.from({ length: 1000 }, (_, at): Said => ({ name: `${at}`, type: '2', target: 'x' })),
    );
    // The archive has been read to its end by then.
    setImmediate(() => interrupted.abort(reason));
  }
  const { signal } = interrupted;
  await expect(saveArchive({ ...quiet, signal }, pieces(), '/s', here.to)).rejects.toBe(reason);
  await here.expectUntouched([]);
});

test('a link is kept in about as much memory as it has bytes, whatever comes between', async () => {
  await using here = await place();
  setFlagsFromString('--expose-gc');
  const held = () => {
    // The buffers that one collection found dead are counted out at the beginning of the next.
    for (const collect of Array(2).fill(runInNewContext('gc'))) collect();
    return process.memoryUsage().arrayBuffers;
  };
  const deep = Array.from({ length: 14 }, (_, at) => `${'d'.repeat(240)}/`.repeat(at + 1));
  const pipe = entryOf({ name: `${deep.at(-1)}${'p'.repeat(200)}`, type: '6' });
  const before = held();
  async function* pieces() {
    for (const name of ['./', ...deep]) yield entryOf({ name, type: '5', mode: 0o755 });
    for (let at = 0; at < 1000; at++) {
      yield Buffer.concat([entryOf({ name: `${at}`, type: '2', target: 'x' }), pipe]);
    }
    expect(held() - before).toBeLessThan(4 * 2 ** 20);
    yield archiveEnd;
  }
  await saveArchive(quiet, pieces(), '/s', here.to);
});

test('directories lie no deeper than 256 in each other', async () => {
  await using here = await place();
  const deep = Array.from({ length: 257 }, (_, depth): Said => ({ name: 'd/'.repeat(depth + 1), type: '5' }));
  await expect(save(archiveOf(root, ...deep), here.to)).rejects.toThrow('more than 256 directories deep');
  await here.expectUntouched([]);
  expect(await save(archiveOf(root, ...deep.slice(0, 256)), here.to)).toEqual([]);
});

test('an archive that breaks off, or is broken off, leaves nothing and says why', async () => {
  await using here = await place();
  const whole = archiveOf(root, { name: 'a', content: 'x'.repeat(5000) });
  await expect(save(whole.subarray(0, 3000), here.to)).rejects.toThrow('no archive that its agent makes');
  const reason = new Error('Interrupted');
  await expect(save(whole, here.to, AbortSignal.abort(reason))).rejects.toBe(reason);
  const broken = new Error('broken off');
  async function* failing() {
    yield whole.subarray(0, 3000);
    throw broken;
  }
  await expect(saveArchive(quiet, failing(), '/s', here.to)).rejects.toBe(broken);
  await here.expectUntouched([]);
});

test('what is there already stays', async () => {
  await using here = await place();
  await writeFile(here.to, 'mine');
  await expect(save(archiveOf(root), here.to)).rejects.toMatchObject({
    message: `${here.to} is there already.`,
  });
  expect(await readFile(here.to, 'utf8')).toBe('mine');
});

const part = fc.constantFrom('a', 'b', '..', '.', '', '/', 'kept', '../../outside', '/etc', 'a/b', '\0', 'é');
const name = fc.oneof(
  part,
  fc.array(part, { maxLength: 4 }).map((parts) => parts.join('/')),
);
const entry: fc.Arbitrary<Said> = fc.record(
  {
    name: fc.oneof(
      name,
      name.map((of) => `${of}/`),
    ),
    type: fc.constantFrom('0', '0', '1', '2', '2', '5', '5', '6', '\0'),
    target: part,
    content: fc.constantFrom('', 'content'),
    mode: fc.nat(0o7777),
  },
  { requiredKeys: ['name', 'type'] },
);

property.prop([fc.array(entry, { maxLength: 8 }), fc.option(fc.nat(2000), { nil: undefined })], {
  numRuns: 200,
})('whatever an archive says stays in the directory, or is not there at all', async (entries, cut) => {
  await using here = await place();
  const archive = Buffer.concat([entryOf(root), archiveOf(...entries)]);
  const saved = await save(cut === undefined ? archive : archive.subarray(0, cut), here.to).then(
    () => true,
    () => false,
  );
  await here.expectUntouched(saved ? ['to'] : []);
});
