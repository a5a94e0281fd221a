import { expect, test } from 'vitest';
import {
  accessTokenPattern,
  apiKeyPattern,
  asE2bKey,
  instancePattern,
  newAccessToken,
  newApiKey,
  newInstance,
  newSandboxId,
  sandboxIdPattern,
} from './ids.ts';

test.each([
  ['sandbox', newSandboxId, sandboxIdPattern],
  ['data directory', newInstance, instancePattern],
  ['life', newAccessToken, accessTokenPattern],
  ['user', newApiKey, apiKeyPattern],
])('the name or secret of a %s has its form, and is another each time', (_, make, pattern) => {
  const made = Array.from({ length: 20 }, make);
  expect(made.filter((one) => !new RegExp(pattern).test(one))).toEqual([]);
  expect(new Set(made).size).toBe(20);
});

test('a key has a form for clients of E2B, which is a key as well', () => {
  const key = newApiKey();
  expect(asE2bKey(key)).toBe(`e2b_${key.slice('perch_'.length)}`);
  expect(asE2bKey(key)).toMatch(new RegExp(apiKeyPattern));
});
