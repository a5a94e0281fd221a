/** Snapshots and forks on the test page, in a real browser. */
import { randomBytes } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from './setup/eventually.ts';
import { rest } from './setup/rest.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { hostile, hostileWord, startBrowser, TestPage } from './setup/test-page.ts';

const perch = sharedPerch();

let browser: Browser;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser?.close());

/** A name that no other test uses; the snapshot goes with the test, if there is one by then. */
function snapshotName(length = 0): AsyncDisposable & { name: string } {
  const name = `page-${randomBytes(4).toString('hex')}`.padEnd(length, 'w');
  return {
    name,
    async [Symbol.asyncDispose]() {
      const { status } = await rest(`/v1/snapshots/${name}`, { method: 'DELETE' });
      if (![204, 404].includes(status)) throw new Error(`${name} is not deleted: ${status}`);
    },
  };
}

test('a snapshot is taken, started from, overwritten and deleted by clicks', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  await using taken = snapshotName();
  const { name } = taken;
  const { id } = sandbox;
  await opened.hasStatus(id, 'running');
  await sh(perch, id, 'echo first > version');
  await opened.takeSnapshot(id, name);
  const from = opened.button(`Create from ${name}`);
  await from.waitFor();
  expect(await from.textContent()).toBe(name);
  expect(await opened.logged(new RegExp(`snapshot ${id} ${name}`))).toMatch(
    /[\d.]+ MiB, in [\d.]+ m?s.*ms: .*\d/,
  );
  const entry = opened.page.getByRole('listitem').filter({ has: from });
  expect(await entry.textContent()).toContain(`1 vCPU, ${sandbox.memory_mb} MiB`);
  expect(await entry.textContent()).toContain(`of ${id}`);

  // The shape in the form is not sent: a snapshot has its own.
  await opened.field('vCPUs').fill('2');
  await opened.field('Name (label, optional)').fill('its child');
  const before = opened.made;
  await from.click();
  const child = await opened.newSandbox(before);
  await opened.logged(new RegExp(`create from ${name} ${child} running in `));
  expect(await perch.sandboxes.get(child)).toMatchObject({
    vcpus: sandbox.vcpus,
    memory_mb: sandbox.memory_mb,
    metadata: { name: 'its child' },
  });
  expect(await (await opened.run(child, 'cat version')).textContent()).toContain('first\n');

  await sh(perch, id, 'echo second > version');
  await opened.takeSnapshot(id, name);
  await opened.logged(new RegExp(`snapshot ${id} failed after `));
  expect(await opened.card(id).locator('.failure').textContent()).not.toBe('');
  await opened.field('Overwrite one of this name', opened.card(id)).check();
  await opened.takeSnapshot(id, name);
  await eventually(async () => (await opened.card(id).locator('.failure').textContent()) === '');
  const since = opened.made;
  await from.click();
  const other = await opened.newSandbox(since);
  expect(await (await opened.run(other, 'cat version')).textContent()).toContain('second\n');

  for (const one of [child, other, id]) {
    await opened.button(`Destroy ${one}`).click();
    await opened.card(one).waitFor({ state: 'detached' });
  }
  await opened.button(`Delete ${name}`).click();
  await from.waitFor({ state: 'detached' });
  await opened.logged(new RegExp(`delete ${name} done in `));
  expect((await rest(`/v1/snapshots/${name}`, { method: 'DELETE' })).status).toBe(404);
  await opened.expectUnharmed();
});

test('a snapshot without a name gets one, of a paused sandbox too', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  await perch.sandboxes.pause(id);
  await opened.hasStatus(id, 'paused');
  await opened.takeSnapshot(id, '');
  const line = await opened.logged(new RegExp(`snapshot ${id} \\S+, [\\d.]+ MiB`));
  const [, name = ''] = new RegExp(`snapshot ${id} (\\S+),`).exec(line) ?? [];
  await opened.button(`Delete ${name}`).click();
  await opened.button(`Create from ${name}`).waitFor({ state: 'detached' });
  expect((await perch.sandboxes.get(id)).status).toBe('paused');
});

test('a sandbox is forked by clicks, and its forks have what it had', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  await opened.hasStatus(id, 'running');
  await sh(perch, id, 'echo inherited > kept');
  await opened.openCopies(id);
  await opened.field('Forks', opened.card(id)).fill('2');
  await opened.button(`Fork of ${id}`).click();
  expect(await opened.logged(new RegExp(`fork ${id} 2 of 2 made`))).toMatch(/ in [\d.]+ m?s/);
  expect(opened.made.size).toBe(2);
  for (const fork of opened.made) {
    await opened.hasStatus(fork, 'running');
    expect(await (await opened.run(fork, 'cat kept')).textContent()).toContain('inherited\n');
    await opened.button(`Destroy ${fork}`).click();
    await opened.card(fork).waitFor({ state: 'detached' });
  }
  await opened.hasStatus(id, 'running');
  await opened.expectUnharmed();
});

test('names and counts that are markup are refused in words, as text', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  await opened.hasStatus(id, 'running');
  const failure = opened.card(id).locator('.failure');
  for (const name of [hostile, hostileWord]) {
    await opened.takeSnapshot(id, name);
    await failure.getByText(name).waitFor();
    expect(await opened.field('Snapshot name (optional)', opened.card(id)).getAttribute('aria-invalid')).toBe(
      'true',
    );
  }
  await opened.field('Forks', opened.card(id)).fill(hostile);
  await opened.button(`Fork of ${id}`).click();
  await failure.getByText(/count must be .*<img src=x onerror=alert\(1\)>/).waitFor();
  expect(await opened.field('Forks', opened.card(id)).getAttribute('aria-invalid')).toBe('true');
  expect(opened.made.size).toBe(0);
  await opened.expectUnharmed();
});

test('snapshots and forks need the keyboard alone, and fit in 390 px', async () => {
  await using opened = await TestPage.open(browser, { width: 390 });
  await using sandbox = await newSandbox(perch);
  // As long as a name may be.
  await using taken = snapshotName(63);
  const { name } = taken;
  const { id } = sandbox;
  const { keyboard } = opened.page;
  const card = opened.card(id);
  // A page that saw it in the making takes no snapshot of it until it looks again.
  await opened.hasStatus(id, 'running');
  await opened.tabTo(card.locator('summary', { hasText: 'Fork, take a snapshot' }));
  await keyboard.press('Enter');
  await opened.tabTo(opened.field('Snapshot name (optional)', card));
  await keyboard.type(name);
  await keyboard.press('Enter');
  const from = opened.button(`Create from ${name}`);
  await from.waitFor();
  await eventually(async () => (await opened.focused.count()) === 1);
  await opened.expectNoSidewaysScroll();

  const before = opened.made;
  await opened.tabTo(from);
  await keyboard.press('Enter');
  await opened.newSandbox(before);
  await opened.tabTo(opened.button(`Fork of ${id}`));
  const since = opened.made;
  await keyboard.press('Space');
  await opened.newSandbox(since);
  await opened.tabTo(opened.button(`Delete ${name}`));
  await keyboard.press('Enter');
  await from.waitFor({ state: 'detached' });
  await eventually(async () => (await opened.focused.count()) === 1);
  await opened.expectNoSidewaysScroll();
  await opened.expectUnharmed();
});
