import { expect, test } from 'vitest';
// @ts-expect-error plain JavaScript, which runs before anything is installed
import { backportsSource, compareVersions, debianMirror } from './apt.mjs';

test('versions compare by number', () => {
  expect(compareVersions('10.0.2', '10.0')).toBeGreaterThan(0);
  expect(compareVersions('7.2', '10.0')).toBeLessThan(0);
  expect(compareVersions('24.11', '24.11.0')).toBe(0);
  expect(compareVersions('0', '1.85')).toBeLessThan(0);
});

test("backports come from the mirror and under the keyring of the machine's own entry", () => {
  const indexes =
    'nodistro https://elsewhere/ /a:1\nbookworm http://mirror/debian/ /etc/apt/sources.list.d/debian.sources:1\n';
  const mirror = debianMirror(indexes, 'bookworm', () => 'Signed-By: /keys/debian.gpg\n');
  expect(backportsSource(mirror)).toBe(
    'Types: deb\nURIs: http://mirror/debian/\nSuites: bookworm-backports\nComponents: main\nSigned-By: /keys/debian.gpg\n',
  );
});

test('a machine whose apt has no lists gets the public mirror', () => {
  expect(debianMirror('', 'bookworm', () => '').uri).toBe('http://deb.debian.org/debian');
});
