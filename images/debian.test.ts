import { expect, test } from 'vitest';
import { parseIndexTargets, parseSignedBy, sourceLines } from './debian.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

const BOOKWORM = `bookworm|http://mirror/debian/|main|Debian|/etc/apt/sources.list.d/debian.sources:1
bookworm-security|http://mirror/security/|main|Debian|/etc/apt/sources.list.d/debian.sources:2
bookworm-backports|http://mirror/debian/|main|Debian Backports|/etc/apt/sources.list:7
nodistro|https://elsewhere/|main|Node Source|/etc/apt/sources.list.d/node.list:1
`;

test('sources of a suite use the mirrors of this machine', () => {
  expect(sourceLines(parseIndexTargets(BOOKWORM), 'bookworm', KEYRING)).toEqual([
    `deb [signed-by=${KEYRING}] http://mirror/debian/ bookworm main`,
    `deb [signed-by=${KEYRING}] http://mirror/debian/ bookworm-updates main`,
    `deb [signed-by=${KEYRING}] http://mirror/security/ bookworm-security main`,
  ]);
});

test('a machine with a newer Debian gets the suite that was asked for', () => {
  const trixie = parseIndexTargets(BOOKWORM.replaceAll('bookworm', 'trixie'));
  expect(sourceLines(trixie, 'bookworm', KEYRING)[0]).toContain('http://mirror/debian/ bookworm main');
});

test('without a Debian source there are no lines', () => {
  expect(
    sourceLines(
      parseIndexTargets('\nnodistro|https://elsewhere/|main|Node Source|f:1\n'),
      'bookworm',
      KEYRING,
    ),
  ).toEqual([]);
});

test('the keyring is found in both formats of source files', () => {
  expect(parseSignedBy('Types: deb\nSigned-By: /a/b.gpg\n')).toBe('/a/b.gpg');
  expect(parseSignedBy('deb [arch=amd64 signed-by=/a/b.gpg] http://m x main')).toBe('/a/b.gpg');
  expect(parseSignedBy('Types: deb\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n')).toBeUndefined();
  expect(parseSignedBy('deb http://m x main')).toBeUndefined();
});
