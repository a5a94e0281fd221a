/** Debian's Chromium at the test page of the shared Perch, as somebody before the screen uses it. */
import { type Browser, type BrowserContext, chromium, type Locator, type Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Sandbox } from '../../packages/protocol/src/index.ts';
import { eventually } from './eventually.ts';
import { sharedPerch } from './sandbox.ts';
import { shared } from './shared.ts';

/** Runs its script when it becomes markup. */
export const hostile = '<img src=x onerror=alert(1)>';
/** The same without what a name of one word may not have. */
export const hostileWord = '<svg/onload=alert(1)>';

const ownElements = [
  ...['html', 'head', 'meta', 'title', 'style', 'script', 'body', 'template', 'header', 'main', 'nav'],
  ...['section', 'article', 'form', 'details', 'summary', 'div', 'span', 'p', 'pre', 'h1', 'h2', 'h3', 'h4'],
  ...['ul', 'ol', 'li', 'label', 'input', 'select', 'option', 'button', 'a', 'strong', 'bdi', 'code'],
];
const ms = 90_000;

export function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    // Its own sandbox refuses root, and as another user hangs on whether the machine gives namespaces to
    // everybody. It opens nothing but the page under test, and what guests say is shown there as text.
    chromiumSandbox: false,
    // Playwright turns off updates and other traffic of its own accord; no name but those of this machine
    // resolves for what is left.
    args: ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.localhost'],
  });
}

export interface OpenOptions {
  width?: number;
  /** Whether the key is typed in, so that the list is there. */
  signedIn?: boolean;
}

/** A tab in a profile of its own. Sandboxes that it makes end with it. */
export class TestPage implements AsyncDisposable {
  readonly page: Page;
  /** Faults of a page: dialogs, errors, violations of its policy, requests to elsewhere. */
  readonly faults: string[] = [];
  readonly #context: BrowserContext;
  readonly #made = new Set<string>();

  private constructor(context: BrowserContext, page: Page) {
    this.#context = context;
    this.page = page;
  }

  static async open(
    browser: Browser,
    { width = 1280, signedIn = true }: OpenOptions = {},
  ): Promise<TestPage> {
    const { url, key } = shared;
    await using opened = new AsyncDisposableStack();
    const context = opened.use(await browser.newContext({ viewport: { width, height: 844 } }));
    context.setDefaultTimeout(ms);
    const opening = new TestPage(context, await context.newPage());
    opening.#watch(opening.page, url);
    await opening.page.goto(`${url}/test`);
    if (signedIn) await opening.signIn(key);
    opened.move();
    return opening;
  }

  /** Another tab of the same window. */
  async openTab(): Promise<Page> {
    const { url } = shared;
    const tab = await this.#context.newPage();
    this.#watch(tab, url);
    await tab.goto(`${url}/test`);
    return tab;
  }

  async signIn(key: string): Promise<void> {
    await this.page.getByLabel('API key').fill(key);
    await this.button('Use key').click();
    await this.page.getByRole('heading', { name: 'Sandboxes' }).waitFor();
  }

  button(name: string, within: Page | Locator = this.page): Locator {
    return within.getByRole('button', { name, exact: true });
  }

  field(name: string, within: Page | Locator = this.page): Locator {
    return within.getByLabel(name, { exact: true });
  }

  card(id: string): Locator {
    return this.page.getByRole('article', { name: `Sandbox ${id}`, exact: true });
  }

  get log(): Locator {
    return this.page.getByRole('log');
  }

  /** Waits until a line of the log has this text. @returns the whole line */
  async logged(text: RegExp): Promise<string> {
    const line = this.log.getByRole('listitem').filter({ hasText: text }).first();
    await line.waitFor();
    return (await line.textContent()) ?? '';
  }

  async hasStatus(id: string, status: Sandbox['status']): Promise<void> {
    const shown = this.card(id).locator('.status');
    await eventually(async () => (await shown.textContent()) === status, ms);
  }

  /** Fills the form and clicks. @returns the id that the log tells */
  async create(fields: Record<string, string> = {}): Promise<string> {
    const before = new Set(this.#made);
    for (const [name, value] of Object.entries({ 'Memory, MiB': '256', ...fields })) {
      await this.field(name).fill(value);
    }
    await this.button('Create').click();
    return this.newSandbox(before);
  }

  /** Ids of all that was made here. */
  get made(): Set<string> {
    return new Set(this.#made);
  }

  /** The one sandbox that was made since, once the page shows it. */
  async newSandbox(since: Set<string>): Promise<string> {
    const id = await eventually(() => [...this.#made].find((one) => !since.has(one)), ms);
    await this.hasStatus(id, 'running');
    return id;
  }

  async run(id: string, command: string): Promise<Locator> {
    const card = this.card(id);
    const field = this.field('Command, for sh', card);
    if (!(await field.isVisible())) await card.getByText('Run a command').click();
    await field.fill(command);
    await this.button(`Run in ${id}`, card).click();
    await eventually(
      async () => (await this.button(`Run in ${id}`, card).getAttribute('aria-busy')) === null,
    );
    return card.locator('.result');
  }

  /** Shows the forms that copy a sandbox. */
  async openCopies(id: string): Promise<void> {
    const card = this.card(id);
    if (!(await this.field('Forks', card).isVisible())) await card.getByText('Fork, take a snapshot').click();
  }

  /** Fills the form and clicks; an answer is there when this returns. */
  async takeSnapshot(id: string, name: string): Promise<void> {
    await this.openCopies(id);
    const card = this.card(id);
    const take = this.button(`Take snapshot of ${id}`, card);
    await this.field('Snapshot name (optional)', card).fill(name);
    await take.click();
    await eventually(async () => (await take.getAttribute('aria-busy')) === null, ms);
  }

  /** Nothing has run that is not the page's, nothing was asked of others, and all that others wrote is text. */
  async expectUnharmed(): Promise<void> {
    expect(this.faults).toEqual([]);
    expect(await this.page.locator(`:not(${ownElements.join(', ')})`).allTextContents()).toEqual([]);
    expect(await this.page.locator('xpath=//@*[starts-with(name(), "on")]/..').count()).toBe(0);
    expect(await this.page.locator('script').count()).toBe(1);
  }

  /** Nothing is wider than the window. */
  async expectNoSidewaysScroll(): Promise<void> {
    for (const element of ['documentElement', 'body']) {
      const [content, width] = await this.page.evaluate<number[]>(
        `[document.${element}.scrollWidth, document.${element}.clientWidth]`,
      );
      expect(content, element).toBe(width);
    }
  }

  /** The element with the focus: none, when the page has lost it. */
  get focused(): Locator {
    return this.page.locator(':focus');
  }

  /** Presses Tab until the focus is there. @throws Error when it never comes there */
  async tabTo(target: Locator): Promise<void> {
    await target.waitFor();
    for (let i = 0; i < 80; i++) {
      if ((await target.and(this.focused).count()) === 1) return;
      await this.page.keyboard.press('Tab');
    }
    throw new Error(`Tab does not lead to ${target}.`);
  }

  /** The content of the tab's storage. */
  kept(): Promise<{ session: Record<string, string>; local: Record<string, string>; cookies: string }> {
    return this.page.evaluate(
      '({ session: { ...sessionStorage }, local: { ...localStorage }, cookies: document.cookie })',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#context.close();
    const { sandboxes } = sharedPerch();
    for (const id of this.#made) await sandboxes.delete(id);
  }

  #watch(page: Page, url: string): void {
    page.on('dialog', (dialog) => {
      this.faults.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('pageerror', (error) => this.faults.push(`error: ${error}`));
    page.on('console', (message) => {
      // A refused call is shown there by Chromium itself.
      if (!message.text().startsWith('Failed to load resource'))
        this.faults.push(`console: ${message.text()}`);
    });
    page.on('request', (request) => {
      const path = request.url().startsWith(`${url}/`) ? request.url().slice(url.length) : request.url();
      if (!/^\/(test$|v1\/)/.test(path)) this.faults.push(`request: ${path}`);
    });
    page.on('response', async (answer) => {
      if (answer.request().method() !== 'POST' || answer.status() !== 201) return;
      const { id, results = [] } = (await answer.json()) as {
        id?: string;
        results?: { sandbox?: Sandbox }[];
      };
      const path = answer.url().slice(url.length);
      if (path === '/v1/sandboxes' && id) this.#made.add(id);
      for (const { sandbox } of results) if (sandbox) this.#made.add(sandbox.id);
    });
  }
}
