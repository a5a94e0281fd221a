/** The page at /test: one file, beside this one in a checkout and beside the bundle where perchd runs from that. */
import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Page } from './page.ts';

const file = new URL('test-page.html', import.meta.url);

export async function loadTestPage(): Promise<Page> {
  const html = await readFile(file, 'utf8');
  const directives = [
    "default-src 'none'",
    `script-src ${digestOf(html, 'script')}`,
    `style-src ${digestOf(html, 'style')}`,
    "connect-src 'self'",
    // The browser refuses every way from a string to markup or script, so a slip in the page shows nothing.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return { html, contentSecurityPolicy: directives.join('; ') };
}

/** CSP source of the one element of this name. @throws Error when there is not just one */
function digestOf(html: string, element: 'script' | 'style'): string {
  const found = [...html.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, 'gs'))];
  const content = found[0]?.[1];
  if (content === undefined || found.length > 1) {
    throw new Error(`${file.pathname} must have one <${element}>, and has ${found.length}`);
  }
  return `'sha256-${hash('sha256', content, 'base64')}'`;
}
