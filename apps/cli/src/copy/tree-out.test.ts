import { chmod, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test as property } from '@fast-check/vitest';
import type { FileEntry } from '@perch/sdk';
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { place } from './testing/destination.ts';
import { type GuestFiles, type SaveOptions, saveTree } from './tree-out.ts';

type Said = Partial<FileEntry> & { name: string };
const time = '2001-02-03T04:05:06.5Z';
const attributes = { mode: 0o755, modifiedAt: time };

/** A guest that lists what is given for a path, or for any, and says `content` for each file. */
function guest(tree: Record<string, Said[]> | Said[], leftOut: string[] = []): SaveOptions {
  const files: GuestFiles = {
    async *all(_id, path) {
      for (const said of Array.isArray(tree) ? tree : (tree[path] ?? []))
        yield {
          path: `/elsewhere/${said.name}`,
          ...{ type: 'file', size: 1, mode: 0o644, permissions: '', owner: '', group: '', modified_at: time },
          ...said,
        };
    },
    download: async () => ({
      stream: new Blob(['content']).stream() as ReadableStream<Uint8Array>,
      ...{ size: undefined, mode: 0o640, modified_at: time },
    }),
  };
  const links = new Map([['sub/told', Buffer.from('b')]]);
  const { signal } = new AbortController();
  return {
    ...{ files, id: 'sb', links, signal },
    through: (content) => content,
    leftOut: (path) => leftOut.push(path),
  };
}

test('files, directories and links come with their modes and times', async () => {
  await using here = await place();
  const leftOut: string[] = [];
  const tree = {
    '/src/': [
      { name: 'sub', type: 'directory', mode: 0o500 },
      { name: 'a' },
      { name: 'pipe', type: 'other' },
    ],
    '/src/sub/': [
      { name: 'link', type: 'directory', symlink_target: '../../../outside' },
      { name: 'told', symlink_target: '/src/sub/b' },
      { name: 'b' },
    ],
  } as const;
  await saveTree(guest(tree as never, leftOut), '/src/', here.to, attributes);
  expect([await readdir(here.to), await readdir(join(here.to, 'sub'))]).toEqual([
    ['a', 'sub'],
    ['b', 'link', 'told'],
  ]);
  expect(await readFile(join(here.to, 'sub/b'), 'utf8')).toBe('content');
  expect(await readlink(join(here.to, 'sub/link'))).toBe('../../../outside');
  expect(await readlink(join(here.to, 'sub/told'))).toBe('b');
  for (const [path, mode] of [
    ['', 0o755],
    ['sub', 0o500],
    ['a', 0o640],
  ] as const) {
    const { mode: bits, mtimeMs } = await stat(join(here.to, path));
    expect([path, bits & 0o777, mtimeMs]).toEqual([path, mode, Date.parse(time)]);
  }
  expect(leftOut).toEqual(['/src/pipe']);
  await here.expectUntouched(['to']);
  await chmod(join(here.to, 'sub'), 0o700);
});

test('names that are not UTF-8 have the bytes that they have in the sandbox', async () => {
  await using here = await place();
  const full = '\u{10FEFF}'.repeat(255);
  const tree = {
    '/src/': [{ name: 'caf\u{10FEE9}.txt' }, { name: full, type: 'directory' }],
    [`/src/${full}/`]: [{ name: '\u{10FE80}', symlink_target: 'caf\u{10FEE9}' }],
  } as const;
  await saveTree(guest(tree as never), '/src/', here.to, attributes);
  const inside = Buffer.concat([Buffer.from(`${here.to}/`), Buffer.alloc(255, 0xff)]);
  expect(await readdir(here.to, 'latin1')).toEqual(['caf\xe9.txt', '\xff'.repeat(255)]);
  expect(await readdir(inside, 'latin1')).toEqual(['\x80']);
  expect(await readlink(Buffer.concat([inside, Buffer.of(0x2f, 0x80)]), 'latin1')).toBe('caf\xe9');
  await expect(
    saveTree(guest({ '/s/': [...tree['/src/'], { name: '..' }] }), '/s', `${here.to}2`, attributes),
  ).rejects.toThrow('is no name');
  await here.expectUntouched(['to']);
});

const link = { name: 'x', type: 'directory', symlink_target: '../../outside' } as const;
test.each<[string, Record<string, Said[]> | Said[]]>([
  ['goes up', [{ name: '..' }]],
  ['goes up and down', [{ name: '../outside/kept' }]],
  ['is the directory itself', [{ name: '.', type: 'directory' }]],
  ['is absolute', [{ name: '/tmp/x' }]],
  ['has a slash', [{ name: 'a/b' }]],
  ['is empty', [{ name: '' }]],
  ['has a NUL', [{ name: 'a\0' }]],
  ['is too long', [{ name: 'ü'.repeat(128) }]],
  ['is a link that goes up', [{ ...link, name: '../x' }]],
  [
    'is that of a link before it, as a directory',
    { '/s/': [link, { name: 'x', type: 'directory' }], '/s/x/': [{ name: 'kept' }] },
  ],
  ['is that of a link before it, as a file', [link, { name: 'x' }]],
  ['is that of a directory before it, as a link', [{ name: 'x', type: 'directory' }, link]],
  ['has no end', [{ name: 'x', type: 'directory' }]],
])('a name that %s writes nothing outside, and leaves nothing', async (_, tree) => {
  await using here = await place();
  await expect(saveTree(guest(tree), '/s', here.to, attributes)).rejects.toThrow();
  await here.expectUntouched([]);
});

const part = fc.constantFrom(
  'a',
  'b',
  '..',
  '.',
  '',
  '/',
  'kept',
  '../../outside',
  '../outside/kept',
  '/etc',
  'a/b',
);
const entry = fc.record(
  {
    name: fc.oneof(
      part,
      fc.tuple(part, part).map((two) => two.join('/')),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
    type: fc.constantFrom('file', 'directory', 'other'),
    symlink_target: part,
    mode: fc.nat(0o7777),
  },
  { requiredKeys: ['name', 'type'] },
) as fc.Arbitrary<Said>;

property.prop([fc.array(fc.array(entry, { maxLength: 4 }), { maxLength: 8 })], { numRuns: 50 })(
  'whatever a guest lists, the next time other things, stays in the directory or is not there at all',
  async (lists) => {
    await using here = await place();
    const listed = guest({});
    const all: GuestFiles['all'] = () => guest(lists.shift() ?? []).files.all('sb', '');
    const options = { ...listed, files: { ...listed.files, all } };
    const saved = await saveTree(options, '/s', here.to, attributes).then(
      () => true,
      () => false,
    );
    await here.expectUntouched(saved ? ['to'] : []);
  },
);

/** Downloads that end when they are told to, and break off with their signal. */
class Held {
  readonly open = new Map<string, { end: () => void; fail: (error: Error) => void }>();
  most = 0;
  begun = 0;
  readonly download: GuestFiles['download'];

  constructor() {
    this.download = async (id, path, options) => {
      const signal = options?.signal;
      const { promise, resolve: end, reject: fail } = Promise.withResolvers<void>();
      this.open.set(path, { end, fail });
      this.begun++;
      this.most = Math.max(this.most, this.open.size);
      signal?.addEventListener('abort', () => fail(signal.reason), { once: true });
      try {
        await promise;
        return await guest([]).files.download(id, path);
      } finally {
        this.open.delete(path);
      }
    };
  }

  /** Ends them in another order than that in which they began. */
  endLast(): void {
    [...this.open.values()].at(-1)?.end();
  }
}

const named = (name: string) => ({ name });
const many = {
  '/s/': [
    { name: 'first', type: 'directory', mode: 0o500 },
    { name: 'pipe', type: 'other' },
    { name: 'second', type: 'directory' },
    ...['a', 'b', 'c', 'd', 'e'].map(named),
    { name: 'socket', type: 'other' },
  ],
  '/s/first/': [
    ...['1', '2', '3', '4', '5'].map(named),
    { name: 'link', symlink_target: '1' },
    { name: 'deep', type: 'directory', mode: 0 },
  ],
  '/s/first/deep/': ['1', '2'].map(named),
  '/s/second/': Array.from({ length: 30 }, (_, n) => named(`${n}`)),
} as never;

function held(outer: AbortSignal = new AbortController().signal) {
  const downloads = new Held();
  const leftOut: string[] = [];
  const options = guest(many, leftOut);
  const files = { ...options.files, download: downloads.download };
  return { downloads, leftOut, options: { ...options, files, signal: outer } };
}

const atOnce = 8;
const full = (downloads: Held) => vi.waitFor(() => expect(downloads.open.size).toBe(atOnce), 30_000);

test('files of several directories come at once, and never more than eight', async () => {
  await using here = await place();
  const { downloads, leftOut, options } = held();
  const saved = saveTree(options, '/s', here.to, attributes);
  for (let left = 42; left > 0; left--) {
    await vi.waitFor(() => expect(downloads.open.size).toBe(Math.min(left, atOnce)), 30_000);
    await here.expectUntouched([expect.stringMatching(/^\.to\.perch-/) as never]);
    downloads.endLast();
  }
  await saved;
  expect([downloads.begun, downloads.most]).toEqual([42, atOnce]);
  expect(leftOut).toEqual(['/s/pipe', '/s/socket']);
  await here.expectUntouched(['to']);
  expect(await readdir(join(here.to, 'second'))).toHaveLength(30);
  expect(await readdir(join(here.to, 'first'))).toEqual(['1', '2', '3', '4', '5', 'deep', 'link']);
  // What came late changed neither mode nor time of the directories that it is in.
  for (const [path, mode] of [
    ['', 0o755],
    ['first', 0o500],
    ['first/deep', 0],
    ['second', 0o644],
  ] as const) {
    const { mode: bits, mtimeMs } = await stat(join(here.to, path));
    expect([path, bits & 0o777, mtimeMs]).toEqual([path, mode, Date.parse(time)]);
  }
  for (const path of ['first', 'first/deep', 'second']) await chmod(join(here.to, path), 0o700);
});

test('a file that fails breaks off those that come beside it, and nothing is left', async () => {
  await using here = await place();
  const { downloads, options } = held();
  const saved = saveTree(options, '/s', here.to, attributes);
  saved.catch(() => {});
  await full(downloads);
  downloads.endLast();
  await vi.waitFor(() => expect(downloads.begun).toBe(atOnce + 1), 30_000);
  await full(downloads);
  const broken = new Error('broken off');
  downloads.open.get('/s/first/2')?.fail(broken);
  await expect(saved).rejects.toBe(broken);
  expect([downloads.begun, downloads.open.size]).toEqual([atOnce + 1, 0]);
  await here.expectUntouched([]);
});

test('a name that is refused breaks off the files on their way, and nothing is left', async () => {
  await using here = await place();
  const { downloads, options } = held();
  const all: GuestFiles['all'] = () => guest(['a', 'b', '..'].map(named)).files.all('sb', '');
  const files = { all, download: downloads.download };
  await expect(saveTree({ ...options, files }, '/s', here.to, attributes)).rejects.toThrow('is no name');
  expect([downloads.begun, downloads.open.size]).toEqual([2, 0]);
  await here.expectUntouched([]);
});

test('a copy that is broken off ends all of its files, says why, and leaves nothing', async () => {
  await using here = await place();
  const interrupt = new AbortController();
  const { downloads, options } = held(interrupt.signal);
  const saved = saveTree(options, '/s', here.to, attributes);
  saved.catch(() => {});
  await full(downloads);
  const reason = new Error('Interrupted');
  interrupt.abort(reason);
  await expect(saved).rejects.toBe(reason);
  expect([downloads.begun, downloads.open.size]).toEqual([atOnce, 0]);
  await here.expectUntouched([]);
});

test('what is there already stays', async () => {
  await using here = await place();
  await writeFile(here.to, 'mine');
  await expect(saveTree(guest([]), '/s', here.to, attributes)).rejects.toMatchObject({
    message: `${here.to} is there already.`,
  });
  expect(await readFile(here.to, 'utf8')).toBe('mine');
});
