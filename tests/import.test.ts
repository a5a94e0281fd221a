/** Snapshots that come from a directory: of the older layout, or of another Perch. */
import { readlinkSync } from 'node:fs';
import {
  cp,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dataPaths } from '../packages/protocol/src/index.ts';
import type { Perch } from '../packages/sdk/src/index.ts';
import { daemonPid, footprint, footprintOf, run } from './setup/machine.ts';
import { cli, PerchInstance } from './setup/perch-instance.ts';
import { newSandbox } from './setup/sandbox.ts';
import { slowness } from './setup/slowness.ts';
import { Witness } from './setup/witness.ts';

let instance: PerchInstance;
let perch: Perch;
let witness: Witness;
/** Where the directories are that are imported. */
let outside: string;

beforeAll(async () => {
  instance = await PerchInstance.start({ network: 90 });
  ({ perch } = instance);
  outside = await mkdtemp(join(tmpdir(), 'perch-import-'));
  await using sandbox = await newSandbox(perch);
  witness = await Witness.place(perch, sandbox.id);
  // The second life has its memory in two files, and so has its pause.
  await perch.sandboxes.pause(sandbox.id);
  await perch.sandboxes.resume(sandbox.id);
  await witness.change();
  await perch.snapshots.create({ sandbox_id: sandbox.id, name: 'origin' });
  await perch.sandboxes.pause(sandbox.id);
  await copy(join(instance.dataDir, 'snapshots/origin'), whole());
  const states = join(instance.dataDir, 'sandboxes', sandbox.id);
  const last = (await readdir(states)).map(Number).toSorted((a, b) => b - a)[0];
  await copy(join(states, `${last}`), join(outside, 'paused'));
  await perch.snapshots.delete('origin');
});

afterAll(async () => {
  if (outside) await rm(outside, { recursive: true });
  await instance?.[Symbol.asyncDispose]();
});

const whole = () => join(outside, 'whole');

const copy = (from: string, to: string) => run('cp', ['-r', '--sparse=always', '--', from, to]);
/** The largest file, which is the same in all and never written to. */
const base = 'rootfs.base';

/** A copy of a directory without its manifest, which ends with the test. */
async function olderLayout(source = whole()) {
  const path = await mkdtemp(join(outside, 'older-'));
  for (const name of await readdir(source)) {
    if (name === base) await link(join(source, name), join(path, name));
    else if (name !== 'manifest.json') await copy(join(source, name), join(path, name));
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function imported(...args: string[]) {
  return JSON.parse(await instance.run('snapshot', 'import', '--json', ...args));
}

/** The error message, when it is refused. */
async function refusal(...args: string[]) {
  const error = await imported(...args).then(
    () => undefined,
    (error: { stderr?: string }) => error.stderr,
  );
  expect(error, 'it was not refused').toBeDefined();
  return JSON.parse(error ?? '').error;
}

async function expectWholeFrom(template: string): Promise<void> {
  await using made = await newSandbox(perch, { template });
  await witness.in(made.id).expectWhole();
}

const names = async () => (await perch.snapshots.list({ type: 'snapshot' })).items.map(({ name }) => name);
/** Directories below `snapshots`, those of what is being made too. */
const kept = () => readdir(join(instance.dataDir, 'snapshots'));

test('memory and disk of an older layout live on in what is created from it', async () => {
  for (const directory of [whole(), join(outside, 'paused')]) {
    await using older = await olderLayout(directory);
    await rm(join(older.path, base));
    const made = await imported(older.path, '--name', 'old');
    expect(made).toMatchObject({
      name: 'old',
      sandbox_id: null,
      template: 'base',
      memory_mb: 256,
      disk_mb: 1024,
    });
    expect(made.assumed.map(({ fact }: { fact: string }) => fact)).toEqual(
      expect.arrayContaining(['vcpus', 'monitor', 'cpu']),
    );
    await rm(older.path, { recursive: true });
    expect(await names()).toEqual(['old']);
    await expectWholeFrom('old');
    await perch.snapshots.delete('old');
  }
  await expect.poll(() => footprint(instance), { timeout: 30_000 * slowness }).toEqual(footprintOf());
});

test('the token of its guest may come from a file, and is in no argument', async () => {
  await using older = await olderLayout();
  const identity = join(older.path, 'identity.json');
  const token = JSON.parse(await readFile(identity, 'utf8')).access_token as string;
  await rm(identity);
  expect(await refusal(older.path, '--name', 'token')).toMatchObject({
    code: 'import_refused',
    message: expect.stringContaining('--token-file'),
  });
  const file = join(outside, 'token');
  await writeFile(file, `${token}\n`);
  await imported(older.path, '--name', 'token', '--token-file', file);
  await expectWholeFrom('token');
  await perch.snapshots.delete('token');
  expect(await instance.log('perch-host')).not.toContain(token);
});

test('a directory with a manifest is taken as it is, and flattened later', async () => {
  expect(await imported(whole())).toMatchObject({ name: 'whole', assumed: [] });
  await expectWholeFrom('whole');
  await perch.snapshots.flatten('whole');
  await using flat = await olderLayout(join(instance.dataDir, 'snapshots/whole'));
  await perch.snapshots.delete('whole');
  expect(await imported(flat.path, '--name', 'flat')).toMatchObject({ standalone: true, disk_mb: 1024 });
  await expectWholeFrom('flat');
  await perch.snapshots.delete('flat');
});

test('one of another monitor is imported, and says why nothing can go on from it here', async () => {
  await using older = await olderLayout();
  await imported(older.path, '--name', 'elsewhere', '--monitor', 'qemu/9.2.0/tcg');
  await expect(newSandbox(perch, { template: 'elsewhere' })).rejects.toThrow(
    /taken by QEMU 9.2.0 and this host runs QEMU/,
  );
  await perch.snapshots.delete('elsewhere');
});

test('a name that is taken stays what it was, unless it is to be replaced', async () => {
  await using older = await olderLayout();
  await imported(whole(), '--name', 'taken');
  expect(await refusal(older.path, '--name', 'taken')).toMatchObject({ code: 'snapshot_exists' });
  expect((await perch.snapshots.list({ type: 'snapshot' })).items[0]?.sandbox_id).toBe(witness.id);
  expect(await imported(older.path, '--name', 'taken', '--overwrite')).toMatchObject({ sandbox_id: null });
  expect(await refusal(older.path, '--name', 'base', '--overwrite')).toMatchObject({
    code: 'snapshot_exists',
  });
  await perch.snapshots.delete('taken');
});

test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
  ['without its memory', (path) => rm(join(path, 'memfile')), /memfile is missing/],
  ['with memory cut off', (path) => truncate(join(path, 'memfile'), 2 ** 20), /memfile has 1048576 bytes/],
  [
    'with the header of another memory size',
    async (path) => {
      const header = await readFile(join(path, 'memfile.header'));
      header.writeBigUInt64LE(512n * 2n ** 20n, 16);
      await writeFile(join(path, 'memfile.header'), header);
    },
    /memfile.header covers 268435456 of 536870912 bytes/,
  ],
  [
    'with a link',
    async (path) => {
      await rename(join(path, 'snapfile'), join(outside, 'snapfile'));
      await symlink(join(outside, 'snapfile'), join(path, 'snapfile'));
    },
    /snapfile is not a regular file/,
  ],
  [
    'with a pipe',
    async (path) => {
      await rm(join(path, 'snapfile'));
      await run('mkfifo', [join(path, 'snapfile')]);
    },
    /snapfile is not a regular file/,
  ],
  ['with a directory', (path) => mkdir(join(path, 'rootfs.ext4')), /rootfs.ext4 is not a regular file/],
  [
    'with a damaged manifest',
    (path) => cp('/etc/hostname', join(path, 'manifest.json')),
    /manifest.json is not/,
  ],
])('a directory %s is refused, and nothing of it is kept', async (_, change, message) => {
  await using older = await olderLayout();
  await change(older.path);
  expect(await refusal(older.path, '--name', 'bad')).toMatchObject({
    code: 'import_refused',
    message: expect.stringMatching(message),
    remedy: expect.stringContaining('perch snapshot import --help'),
  });
  expect(await kept()).toEqual([]);
});

/** Posts its last argument, and prints the status and the body of the answer. */
const post = `
  const [, socketPath, body] = process.argv;
  const headers = { 'content-type': 'application/json' };
  const options = { socketPath, path: '/v1/snapshots/import', method: 'POST', headers };
  require('node:http').request(options, async (answer) => {
    console.log(answer.statusCode + ' ' + Buffer.concat(await answer.toArray()));
  }).end(body);
`;

/** A call of the host API, as a user may make it. */
async function call(user: string, directory: string): Promise<{ status: number; code?: string }> {
  const body = { name: 'called', overwrite: false, directory, facts: {} };
  // Each user may run the Node of a daemon.
  const node = readlinkSync(`/proc/${daemonPid(instance.dataDir, 'perchd')}/exe`);
  const { stdout } = await run('setpriv', [
    ...['--reuid', user, '--regid', user, '--init-groups', '--', node, '-e', post],
    ...[dataPaths(instance.dataDir).hostSocket, JSON.stringify(body)],
  ]);
  const [, status, answer = ''] = /^(\d+) (.*)/s.exec(stdout) ?? [];
  return { status: Number(status), code: JSON.parse(answer).error?.code };
}

test('only root may name a directory, and only by its plain path', async () => {
  expect(await call('perch', whole())).toEqual({ status: 403, code: 'root_only' });
  const aside = join(outside, 'paused');
  const dotted = `${aside}/../${basename(whole())}`;
  expect(await call('root', dotted)).toEqual({ status: 400, code: 'import_refused' });
  expect(await kept()).toEqual([]);
});

test('people are told what was assumed, and programs the name alone', async () => {
  await using older = await olderLayout();
  const command = [cli, 'snapshot', 'import', older.path, '--name', 'told'];
  const { stdout, stderr } = await run(process.execPath, command, { env: instance.env });
  expect(stdout).toBe('told\n');
  expect(stderr).toMatch(/^ {2}vcpus: 1$/m);
  expect(stderr).toMatch(/^ {2}monitor: qemu\/\d/m);
  await perch.snapshots.delete('told');
  await expect(instance.run('snapshot', 'import', older.path, '--name', 'No/Name')).rejects.toThrow('--name');
  await expect(instance.run('snapshot', 'import', join(outside, 'none'))).rejects.toThrow('ENOENT');
});
