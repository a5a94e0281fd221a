import { readFile } from 'node:fs/promises';
import { run } from './commands.ts';
import { BuildError } from './errors.ts';

const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const INDEX_FORMAT = '$(CODENAME)|$(REPO_URI)|$(COMPONENT)|$(ORIGIN)|$(SOURCESENTRY)';

/** One suite of a Debian mirror that this machine's apt is set up to use. */
export type AptIndex = { codename: string; uri: string; component: string; origin: string; file: string };

/** Parses lines of `apt-get indextargets` in {@link INDEX_FORMAT}. */
export function parseIndexTargets(text: string): AptIndex[] {
  return text
    .split('\n')
    .map((line) => line.split('|'))
    .filter((fields) => fields.length === 5)
    .map(([codename = '', uri = '', component = '', origin = '', entry = '']) => ({
      codename,
      uri,
      component,
      origin,
      file: entry.replace(/:\d+$/, ''),
    }));
}

/** The keyring file that an apt source file names, in either of its formats; undefined when it names none. */
export function parseSignedBy(text: string): string | undefined {
  const match = /^Signed-By:[ \t]*(\/\S+)/im.exec(text) ?? /\bsigned-by=(\/[^\]\s,]+)/i.exec(text);
  return match?.[1];
}

/**
 * apt source lines of a Debian suite with its updates and security fixes, on the mirrors this machine uses.
 * Works on a machine that runs another release: a mirror carries all of them.
 */
export function sourceLines(indexes: readonly AptIndex[], suite: string, keyring: string): string[] {
  const main = indexes.filter((index) => index.component === 'main' && index.origin === 'Debian');
  const release = main.find((index) => /^[a-z]+$/.test(index.codename));
  const security = main.find((index) => index.codename.endsWith('-security'));
  if (release === undefined) return [];
  const line = (uri: string, name: string) => `deb [signed-by=${keyring}] ${uri} ${name} main`;
  const lines = [line(release.uri, suite), line(release.uri, `${suite}-updates`)];
  if (security !== undefined) lines.push(line(security.uri, `${suite}-security`));
  return lines;
}

/** {@link sourceLines} for this machine. */
export async function debianSources(suite: string): Promise<string[]> {
  let indexes = await readIndexes();
  if (indexes.length === 0) {
    // Images of machines often come without apt's lists.
    await run('apt-get', ['-q', 'update'], {
      remedy: 'Let `apt-get update` work, then run `npm run setup` again.',
    });
    indexes = await readIndexes();
  }
  const file = indexes.find((index) => index.origin === 'Debian')?.file;
  const signedBy = file === undefined ? undefined : parseSignedBy(await readFile(file, 'utf8'));
  const lines = sourceLines(indexes, suite, signedBy ?? DEBIAN_KEYRING);
  if (lines.length === 0) {
    throw new BuildError(
      'apt knows no Debian mirror',
      'Add a Debian source to apt, run `apt-get update`, and try again.',
    );
  }
  return lines;
}

async function readIndexes(): Promise<AptIndex[]> {
  return parseIndexTargets(
    await run('apt-get', ['indextargets', '--format', INDEX_FORMAT, 'Identifier: Packages']),
  );
}

/** This machine's settings for reaching mirrors (proxies, certificates, date checks), as apt configuration. */
export async function aptAcquireSettings(): Promise<string[]> {
  const dump = await run('apt-config', ['dump', '--format', '%f "%v";%n', 'Acquire']);
  return dump
    .split('\n')
    .filter((line) => /^Acquire::(https?::|Check-|Retries)/.test(line) && !line.endsWith(' "";'));
}
