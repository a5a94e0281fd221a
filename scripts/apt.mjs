const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Compares dotted numbers: below, at or above 0 as `a` is older than, the same as or newer than `b`. */
export function compareVersions(a, b) {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The keyring that an apt source file names, in its deb822 or its one-line format; undefined when it names none. */
export function parseSignedBy(text) {
  const match = /^Signed-By:[ \t]*(\/\S+)/im.exec(text) ?? /\bsigned-by=(\/[^\]\s,]+)/i.exec(text);
  return match?.[1];
}

/**
 * The mirror and keyring that apt uses for a Debian suite.
 * @param indexes lines `codename uri source-file:line` of `apt-get indextargets`, or source lines when apt has no lists yet
 */
export function debianMirror(indexes, suite, read) {
  const line = indexes.split('\n').find((text) => text.startsWith(`${suite} `));
  if (line === undefined) return { uri: 'http://deb.debian.org/debian', keyring: DEBIAN_KEYRING };
  const [, uri = '', entry = ''] = line.split(' ');
  return { uri, keyring: parseSignedBy(read(entry.replace(/:\d+$/, ''))) ?? DEBIAN_KEYRING };
}

/** The apt source, in deb822 format, of Debian 12's backports on a mirror. */
export function backportsSource({ uri, keyring }) {
  return `Types: deb\nURIs: ${uri}\nSuites: bookworm-backports\nComponents: main\nSigned-By: ${keyring}\n`;
}
