/** Programs that everybody has, at servers in a sandbox by the edge: git, Chromium, curl. */
import { execFile } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Sandbox } from 'e2b';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { asE2bKey } from '../packages/protocol/src/index.ts';
import { bootDefaultMachine } from './setup/default-machine.ts';
import { eventually } from './setup/eventually.ts';
import { shared } from './setup/shared.ts';
import { startBrowser } from './setup/test-page.ts';

const run = promisify(execFile);

/** By plain files, which git calls dumb, and by its own server as a CGI program. */
const repository = `
mkdir -p www/cgi-bin
git init -q -b main work
cd work
git config user.name guest
git config user.email guest@example.test
seq 50000 > numbers
git add .
git commit -qm first
mkdir folder
echo guest > folder/file
git add .
git commit -qm second
git clone -q --bare . ../www/repo.git
cd ../www
git -C repo.git config http.receivepack true
git -C repo.git update-server-info
printf '#!/bin/sh\\nGIT_HTTP_EXPORT_ALL=1 GIT_PROJECT_ROOT=%s exec git http-backend\\n' "$PWD" > cgi-bin/git
chmod +x cgi-bin/git
`;

let box: Sandbox;
let folder: string;
beforeAll(async () => {
  await bootDefaultMachine();
  // Without a token for its ports: a browser sends none.
  box = await Sandbox.create({
    ...{ apiUrl: shared.url, sandboxUrl: shared.url, apiKey: asE2bKey(shared.key) },
    timeoutMs: 900_000,
  });
  folder = await mkdtemp(join(tmpdir(), 'perch-judges-'));
  await box.files.write('text', 'first');
  await box.files.write('site.py', await readFile(join(import.meta.dirname, 'edge-judges/site.py'), 'utf8'));
  await box.commands.run('python3 site.py', { background: true, timeoutMs: 0 });
  await box.commands.run(repository);
  await box.commands.run('cd www && exec python3 -m http.server --cgi 8000', {
    background: true,
    timeoutMs: 0,
  });
  const code = async (port: number) =>
    (await run('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', at(port)])).stdout;
  for (const port of [8000, 8080]) await eventually(async () => (await code(port)) === '200', 60_000);
});
afterAll(async () => {
  await box?.kill();
  if (folder) await rm(folder, { recursive: true });
});

const at = (port: number, path = '/') => `http://${box.getHost(port)}${path}`;

describe('git', () => {
  const git = async (...args: string[]) => {
    const { stdout } = await run('git', args, {
      env: {
        ...{ PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0' },
        ...{ GIT_AUTHOR_NAME: 'host', GIT_AUTHOR_EMAIL: 'host@example.test' },
        ...{ GIT_COMMITTER_NAME: 'host', GIT_COMMITTER_EMAIL: 'host@example.test' },
      },
    });
    return stdout.trim();
  };
  const guestHead = async () => (await box.commands.run('git -C www/repo.git rev-parse main')).stdout.trim();

  test('clones a repository of plain files, by the headers of the edge', async () => {
    const headers = [`E2b-Sandbox-Id: ${box.sandboxId}`, 'E2b-Sandbox-Port: 8000'];
    const clone = join(folder, 'by-headers');
    const given = headers.flatMap((header) => ['-c', `http.extraHeader=${header}`]);
    await git(...given, 'clone', '-q', `${shared.url}/repo.git`, clone);
    expect(await git('-C', clone, 'rev-parse', 'HEAD')).toBe(await guestHead());
    expect(await git('-C', clone, 'status', '--porcelain')).toBe('');
    expect(await readFile(join(clone, 'folder/file'), 'utf8')).toBe('guest\n');
    expect((await readFile(join(clone, 'numbers'), 'utf8')).length).toBe(288_894);
    await git('-C', clone, 'fsck', '--strict');
  });

  test('clones from its own server by the host name, and pushes back', async () => {
    const clone = join(folder, 'by-name');
    await git('clone', '-q', '--depth', '1', at(8000, '/cgi-bin/git/repo.git'), clone);
    expect(await git('-C', clone, 'rev-list', '--count', 'HEAD')).toBe('1');
    await writeFile(join(clone, 'random'), randomBytes(300_000));
    await git('-C', clone, 'add', '.');
    await git('-C', clone, 'commit', '-qm', 'third');
    await git('-C', clone, 'push', '-q', 'origin', 'main');
    expect(await guestHead()).toBe(await git('-C', clone, 'rev-parse', 'HEAD'));
  });
});

test('Chromium shows events as they come, and loads a page again when a WebSocket tells of a change', async () => {
  await using browser = await startBrowser();
  const context = await browser.newContext();
  context.setDefaultTimeout(90_000);
  const page = await context.newPage();
  const faults: unknown[] = [];
  page.on('pageerror', (error) => faults.push(error));
  let loads = 0;
  page.on('load', () => loads++);
  await page.goto(at(8080));
  // The program counts them over all loads.
  let events = 0;
  for (const text of ['first', 'second', 'third']) {
    if (text !== 'first') await box.files.write('text', text);
    await page.getByRole('heading', { name: text }).waitFor();
    const items = page.getByRole('listitem');
    await items.nth(2).waitFor();
    expect(await items.allTextContents()).toEqual([++events, ++events, ++events].map(String));
  }
  expect({ loads, faults }).toEqual({ loads: 3, faults: [] });
});

describe('curl with Expect: 100-continue', () => {
  const body = randomBytes(16 * 1024 * 1024);
  const post = async (url: string, how = (file: string) => ['--data-binary', `@${file}`]) => {
    const file = join(folder, 'body');
    await writeFile(file, body);
    // Longer than the test may take: the body goes out when somebody says so.
    const patience = ['--expect100-timeout', '600', '-H', 'Expect: 100-continue'];
    const { stdout, stderr } = await run('curl', [
      ...['-sSv', ...patience, ...how(file), '-o', join(folder, 'said')],
      ...['-w', '%{http_code} %{size_upload}', url],
    ]);
    const [status, size] = stdout.split(' ').map(Number);
    return {
      ...{ status, size, continued: stderr.includes('< HTTP/1.1 100 Continue') },
      said: await readFile(join(folder, 'said'), 'utf8'),
    };
  };

  test('sends a large body when the program in the sandbox, or the agent, says so', async () => {
    expect(await post(at(8080, '/upload'))).toEqual({
      ...{ status: 200, size: body.length, continued: true, said: hash('sha256', body) },
    });
    const url = await box.uploadUrl('large');
    const sent = await post(url, (file) => ['-F', `file=@${file}`]);
    expect(sent).toMatchObject({ status: 200, continued: true });
    expect((await box.commands.run('sha256sum large')).stdout).toBe(`${hash('sha256', body)}  large\n`);
  });

  test('sends none that the program refuses, or that has no program', async () => {
    expect(await post(at(8080, '/refused'))).toMatchObject({ status: 413, size: 0, continued: false });
    expect(await post(at(8081))).toMatchObject({ status: 502, size: 0, continued: false });
  });
});
