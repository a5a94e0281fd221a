import { expect, test } from 'vitest';
import { elsewhere, isHere } from './elsewhere.ts';
import { health, refused, served } from './testing/served.ts';

test.each([
  ['http://127.0.0.1:7070', true],
  ['http://localhost:7070', true],
  ['http://[::1]:7070', true],
  ['http://127.0.0.1:7071', false],
  ['https://127.0.0.1:7070', false],
  ['http://127.0.0.1:7070/perch', false],
  ['http://192.0.2.7:7070', false],
  ['https://perch.example', false],
])('%s is here: %s', (url, here) => {
  expect(isHere(url, '127.0.0.1:7070')).toBe(here);
  expect(isHere(url, '0.0.0.0:7070')).toBe(here);
});

test('an address of its own counts by its name', () => {
  expect(isHere('http://192.0.2.7:80', '192.0.2.7:80')).toBe(true);
  expect(isHere('http://127.0.0.1:80', '192.0.2.7:80')).toBe(false);
});

const brief = (findings: Awaited<ReturnType<typeof elsewhere>>) =>
  findings.map(({ name, status }) => `${name}: ${status}`);

test('a Perch elsewhere is asked for its health, the key and its hosts, and this machine is left alone', async () => {
  const items = [
    { id: 'a', status: 'ready' },
    { id: 'b', status: 'unreachable' },
  ];
  using there = await served({ '/health': health, '/v1/hosts': [200, { items }] });
  const found = await elsewhere({ url: there.url, apiKey: 'perch_key' }, '127.0.0.1:1');
  expect(brief(found)).toEqual(['machine: ok', 'perchd: ok', 'API key: ok', 'host a: ok', 'host b: warning']);
  expect(found[1]?.detail).toContain(there.url);
});

test('a key that is not valid, or none, is told', async () => {
  using there = await served({ '/health': health, '/v1/hosts': refused });
  const found = await elsewhere({ url: there.url, apiKey: 'perch_key' }, '127.0.0.1:1');
  expect(found.at(-1)).toMatchObject({
    name: 'API key',
    status: 'problem',
    detail: expect.stringMatching(/not valid/),
    remedy: expect.stringContaining('PERCH_API_KEY'),
  });
  expect(brief(await elsewhere({ url: there.url, apiKey: undefined }, '127.0.0.1:1')).at(-1)).toBe(
    'API key: problem',
  );
});

test('one that does not answer is told by its URL', async () => {
  const found = await elsewhere({ url: 'http://127.0.0.1:48', apiKey: 'x' }, '127.0.0.1:1');
  expect(brief(found)).toEqual(['machine: ok', 'perchd: problem']);
  expect(found[1]?.detail).toBe('does not answer at http://127.0.0.1:48');
  expect(found[1]?.remedy).toContain('PERCH_URL');
  expect(found[1]?.remedy).not.toContain('perch up');
});
