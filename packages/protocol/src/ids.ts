/** Names that Perch makes: at random, and of a form that their readers check. */
import { randomBytes, randomInt } from 'node:crypto';

const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** So many of [a-z0-9]: five random bits each. */
export function randomLetters(count: number): string {
  return Array.from({ length: count }, () => alphabet[randomInt(alphabet.length)]).join('');
}

/** `sb` and 18 characters of [a-z0-9]: 93 random bits. No dash, since host names are split at dashes. */
export const sandboxIdPattern = '^sb[a-z0-9]{18}$';
const sandboxIdRegExp = new RegExp(sandboxIdPattern);

export type SandboxId = string & { readonly __brand?: 'SandboxId' };

export function newSandboxId(): SandboxId {
  return `sb${randomLetters(18)}`;
}

export function isSandboxId(value: string): value is SandboxId {
  return sandboxIdRegExp.test(value);
}

/** The short id of a data directory, which every name of a resource carries. */
export const instancePattern = '^[a-z0-9]{6}$';

export function newInstance(): string {
  return randomLetters(6);
}

/** Names of templates and snapshots. */
export const templateNamePattern = '^[a-z0-9][a-z0-9._-]{0,62}$';

/** The secret that the guest agent of one life asks of its callers: 256 random bits. */
export const accessTokenPattern = '^[0-9a-f]{64}$';

export function newAccessToken(): string {
  return randomBytes(32).toString('hex');
}

/** API keys: `perch_` and 40 hex digits. `e2b_` before the same digits is the same key, for clients of E2B. */
export const apiKeyPattern = '^(?:perch|e2b)_[0-9a-f]{40}$';

/** A key with the prefix that E2B's clients look for. */
export function asE2bKey(key: string): string {
  return key.replace(/^perch_/, 'e2b_');
}

export function newApiKey(): string {
  return `perch_${randomBytes(20).toString('hex')}`;
}
