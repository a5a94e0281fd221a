/** The test page in a real browser: the life of a sandbox by hand, and nothing that others wrote becomes markup. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './setup/eventually.ts';
import { newSandbox, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';
import { hostile, hostileWord, startBrowser, TestPage } from './setup/test-page.ts';

const perch = sharedPerch();
const { url, key } = shared;
const duration = /\d+(\.\d+)? m?s/;

let browser: Browser;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser?.close());

test('a sandbox is created, used, paused, resumed and destroyed by clicks', async () => {
  await using opened = await TestPage.open(browser);
  const { page } = opened;
  const id = await opened.create({ 'Name (label, optional)': 'by hand', 'Time-out, s': '900' });
  const card = opened.card(id);
  expect(await card.textContent()).toMatch(
    /base · 1 vCPU, 256 MiB, disk 5120 MiB · .* · destroy at [\d:]+\s+name: by hand/,
  );
  expect(await perch.sandboxes.get(id)).toMatchObject({ timeout_sec: 900, metadata: { name: 'by hand' } });

  const result = await opened.run(id, 'echo out; echo err >&2; exit 3');
  expect(await result.textContent()).toMatch(/^Exit code 3, \d/);
  expect(await result.getByRole('region', { name: 'stdout' }).textContent()).toBe('out\n');
  expect(await result.getByRole('region', { name: 'stderr' }).textContent()).toBe('err\n');
  await opened.run(id, 'echo kept > kept');

  await opened.button(`Pause ${id}`, card).click();
  await opened.hasStatus(id, 'paused');
  expect((await perch.sandboxes.get(id)).status).toBe('paused');
  expect(await opened.button(`Run in ${id}`, card).isDisabled()).toBe(true);
  await opened.button(`Resume ${id}`, card).click();
  await opened.hasStatus(id, 'running');
  expect(await (await opened.run(id, 'cat kept')).textContent()).toContain('kept\n');

  await opened.button(`Destroy ${id}`, card).click();
  await card.waitFor({ state: 'detached' });
  expect((await perch.sandboxes.get(id)).status).toBe('destroyed');

  const lines = await opened.log.getByRole('listitem').allTextContents();
  const told = lines.reverse().map((line) => line.replace(/^\S+ /, ''));
  expect(told.map((line) => line.replace(/ in [\d.]+ m?s.*/, ''))).toEqual([
    `create ${id} running`,
    `exec ${id} exit code 3`,
    `exec ${id} exit code 0`,
    `pause ${id} paused`,
    `resume ${id} running`,
    `exec ${id} exit code 0`,
    `destroy ${id} done`,
  ]);
  for (const line of told) expect(line).toMatch(duration);
  expect(told[3]).toMatch(/ms: .*memory \d/);
  expect(await page.title()).toBe('Perch test page');
  await opened.expectUnharmed();
});

test('the list follows what others do, without a click', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  await opened.hasStatus(id, 'running');
  await perch.sandboxes.pause(id);
  await opened.hasStatus(id, 'paused');
  await perch.sandboxes.delete(id);
  await opened.card(id).waitFor({ state: 'detached' });
  await opened.expectUnharmed();
});

test('a refused form says why and marks the field', async () => {
  await using opened = await TestPage.open(browser);
  await opened.field('vCPUs').fill('0');
  await opened.button('Create').click();
  await opened.page.getByText('vcpus must be an integer between 1 and 16, got 0').first().waitFor();
  expect(await opened.field('vCPUs').getAttribute('aria-invalid')).toBe('true');
  expect(await opened.field('Memory, MiB').getAttribute('aria-invalid')).toBeNull();
  expect(await opened.logged(/vcpus must be/)).toMatch(/create failed after \d/);
  expect(opened.made.size).toBe(0);
});

test('a command whose time is over shows what it said until then', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch);
  const card = opened.card(sandbox.id);
  await card.getByText('Run a command').click();
  await opened.field('Limit, s', card).fill('2');
  const result = await opened.run(sandbox.id, 'echo so far; sleep 100');
  await result.getByText('Its time was over').waitFor();
  expect(await result.textContent()).toContain('so far\n');
  await opened.logged(/exec .* failed after/);
});

describe('the API key', () => {
  test('is asked for once, and kept in the tab alone', async () => {
    await using opened = await TestPage.open(browser, { signedIn: false });
    const { page } = opened;
    await opened.field('API key').waitFor();
    expect(await opened.button('Create').isVisible()).toBe(false);
    await opened.signIn(key);
    await page.reload();
    await opened.button('Create').waitFor();
    expect(await opened.field('API key').isVisible()).toBe(false);

    expect(await opened.kept()).toEqual({ session: { 'perch-api-key': key }, local: {}, cookies: '' });
    expect(page.url()).toBe(`${url}/test`);
    expect(await page.content()).not.toContain(key);

    const other = await opened.openTab();
    await opened.field('API key', other).waitFor();
    await opened.expectUnharmed();
  });

  test('that is wrong is refused and not kept', async () => {
    await using opened = await TestPage.open(browser, { signedIn: false });
    for (const wrong of [`perch_${'0'.repeat(40)}`, hostile, hostileWord, 'ключ', '']) {
      await opened.field('API key').fill(wrong);
      await opened.button('Use key').click();
      await opened.page.getByRole('alert').filter({ hasText: 'key' }).waitFor();
      await eventually(async () => (await opened.field('API key').inputValue()) === '');
    }
    expect((await opened.kept()).session).toEqual({});
    await opened.expectUnharmed();
  });

  test('goes with all that it showed when it is forgotten', async () => {
    await using sandbox = await newSandbox(perch);
    await using opened = await TestPage.open(browser);
    await opened.hasStatus(sandbox.id, 'running');
    await opened.button('Forget key').click();
    await opened.field('API key').waitFor();
    expect((await opened.kept()).session).toEqual({});
    const [head = ''] = (await opened.page.content()).split('<script>');
    expect(head).not.toContain(sandbox.id);
  });
});

test('whatever is typed in, and whatever a guest or another client says, is text', async () => {
  await using opened = await TestPage.open(browser);
  await using sandbox = await newSandbox(perch, {
    metadata: { [hostile]: `${hostile}</p><script>alert(2)</script>` },
  });
  const { page } = opened;
  const card = opened.card(sandbox.id);
  await card.getByText(`${hostile}: ${hostile}</p><script>alert(2)</script>`).waitFor();

  for (const name of ['vCPUs', 'Memory, MiB', 'Time-out, s']) await opened.field(name).fill(hostile);
  await opened.button('Create').click();
  await opened.logged(/create failed after .*vcpus must be .*<img src=x onerror=alert\(1\)>/);
  expect(await page.locator('#create .error').textContent()).toContain(hostile);

  const id = await opened.create({ 'Name (label, optional)': hostile, vCPUs: '1', 'Time-out, s': '600' });
  await opened.card(id).getByText(`name: ${hostile}`).waitFor();
  await opened.button(`Destroy ${id}`).click();

  const said = `${hostile}</pre><script>alert(3)</script>\u202e`;
  const result = await opened.run(sandbox.id, `said='${said}'; printf %s "$said"; printf %s "$said" >&2`);
  for (const stream of ['stdout', 'stderr']) {
    expect(await result.getByRole('region', { name: stream }).textContent()).toBe(said);
  }
  await opened.run(sandbox.id, hostile);
  await opened.field('Limit, s', card).fill(hostile);
  await opened.run(sandbox.id, 'true');
  await card.getByText(/timeout_sec must be .*<img src=x onerror=alert\(1\)>/).waitFor();
  await opened.expectUnharmed();
});

test('the main path needs the keyboard alone, and never loses its place', async () => {
  await using opened = await TestPage.open(browser, { signedIn: false });
  const { keyboard } = opened.page;
  const focused = async () => (await opened.focused.count()) === 1;
  // The field has the focus from the start.
  await keyboard.type(key);
  await keyboard.press('Enter');
  await opened.page.getByRole('heading', { name: 'Sandboxes' }).waitFor();
  const before = opened.made;
  await opened.tabTo(opened.field('Memory, MiB'));
  await keyboard.press('Control+A');
  await keyboard.type('256');
  await opened.tabTo(opened.button('Create'));
  await keyboard.press('Enter');
  const id = await opened.newSandbox(before);
  const card = opened.card(id);
  expect(await focused()).toBe(true);

  await opened.tabTo(card.locator('summary', { hasText: 'Run a command' }));
  await keyboard.press('Enter');
  await opened.tabTo(opened.field('Command, for sh', card));
  await keyboard.type('echo by keyboard');
  await keyboard.press('Enter');
  await card.getByRole('region', { name: 'stdout' }).waitFor();
  expect(await focused()).toBe(true);
  await opened.tabTo(card.getByRole('region', { name: 'stdout' }));

  for (const [action, status] of [
    ['Pause', 'paused'],
    ['Resume', 'running'],
  ] as const) {
    await opened.tabTo(opened.button(`${action} ${id}`, card));
    await keyboard.press('Space');
    await opened.hasStatus(id, status);
    await eventually(focused);
  }
  await opened.tabTo(opened.button(`Destroy ${id}`, card));
  await keyboard.press('Enter');
  await card.waitFor({ state: 'detached' });
  await eventually(focused);
  await opened.tabTo(opened.log);
  await opened.expectUnharmed();
});

test('a window of 390 px shows all of it without scrolling sideways', async () => {
  await using opened = await TestPage.open(browser, { width: 390, signedIn: false });
  await opened.expectNoSidewaysScroll();
  await opened.signIn(key);
  await using sandbox = await newSandbox(perch, { metadata: { name: 'W'.repeat(4000), '🪶': hostile } });
  await opened.hasStatus(sandbox.id, 'running');
  await opened.run(
    sandbox.id,
    "head -c 3000 /dev/zero | tr '\\0' W; head -c 3000 /dev/zero | tr '\\0' W >&2",
  );
  await opened.field('vCPUs').fill('9'.repeat(300));
  await opened.button('Create').click();
  await opened.logged(/create failed/);
  await opened.expectNoSidewaysScroll();
  for (const control of await opened.page.locator('button:visible, input:visible, select:visible').all()) {
    const box = await control.boundingBox();
    expect(box && box.x >= 0 && box.x + box.width <= 390, `${control}`).toBe(true);
  }
});
