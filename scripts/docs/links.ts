/** Links from one page of the repository to another lead to a file, and to a heading where they name one. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { anchors, proseLines } from './markdown.ts';

/** The pages that are looked at. */
export function pages(root: string): string[] {
  return globSync(['*.md', 'docs/**/*.md', '{apps,packages,crates}/*/*.md'], { cwd: root }).sort();
}

/**
 * @param page path of the page from `root`
 * @param text its text
 * @returns number of links to other places of the repository, and a sentence for each dead one
 */
export function checkLinks(page: string, text: string, root: string): { links: number; problems: string[] } {
  const problems: string[] = [];
  let links = 0;
  for (const [index, line] of proseLines(text).entries()) {
    for (const [, target = ''] of line.replace(/`[^`]*`/g, '').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      links++;
      const [file = '', anchor] = target.split('#');
      const path = file === '' ? join(root, page) : join(root, dirname(page), file);
      const dead = (what: string) => problems.push(`${page}:${index + 1}: ${target}: there is no ${what}`);
      if (!existsSync(path)) dead(relative(root, path));
      else if (anchor !== undefined) {
        const there = file === '' ? text : readFileSync(path, 'utf8');
        if (!anchors(there).has(anchor)) dead(`heading #${anchor}`);
      }
    }
  }
  return { links, problems };
}
