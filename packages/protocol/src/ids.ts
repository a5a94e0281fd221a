import { randomInt } from 'node:crypto';

const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** `sb` and 18 characters of [a-z0-9]: 93 random bits. No dash, since host names are split at dashes. */
export const sandboxIdPattern = '^sb[a-z0-9]{18}$';
const sandboxIdRegExp = new RegExp(sandboxIdPattern);

export type SandboxId = string & { readonly __brand?: 'SandboxId' };

export function newSandboxId(): SandboxId {
  let id = 'sb';
  for (let i = 0; i < 18; i++) id += alphabet[randomInt(alphabet.length)];
  return id;
}

export function isSandboxId(value: string): value is SandboxId {
  return sandboxIdRegExp.test(value);
}

/** Names of templates and snapshots. */
export const templateNamePattern = '^[a-z0-9][a-z0-9._-]{0,62}$';

/** API keys: `perch_` and 40 hex digits. */
export const apiKeyPattern = '^perch_[0-9a-f]{40}$';
