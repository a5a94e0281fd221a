/** Names of builds: a build is what one snapshot added to the memory and the disk of its ancestors. */
import { randomBytes } from 'node:crypto';

/** 16 bytes as 32 lower-case hex digits, not all of them zero. */
export type BuildId = string;

export const buildIdBytes = 16;
/** For TypeBox: the id that means "zero-filled" in a header names no build. */
export const buildIdPattern = '^(?!0{32}$)[0-9a-f]{32}$';
const expression = new RegExp(buildIdPattern);

export function newBuildId(): BuildId {
  return randomBytes(buildIdBytes).toString('hex');
}

export function isBuildId(text: string): text is BuildId {
  return expression.test(text);
}

/** @throws RangeError */
export function assertBuildId(text: string): void {
  if (!isBuildId(text))
    throw new RangeError(`A build id is 32 hex digits, not all zero; this is not: ${text}`);
}
