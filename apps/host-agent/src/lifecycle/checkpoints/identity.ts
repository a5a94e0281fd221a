/** `identity.json` of a snapshot: what the guest agent in its memory believes. */
import { type Static, Type } from 'typebox';
import type { HeldIdentity } from '../journal/index.ts';

export const CapturedIdentity = Type.Object(
  {
    /** Opens the guest agent. */
    access_token: Type.String({ minLength: 1, maxLength: 1024 }),
    /** Of the last identity that the guest was given; the next must be higher. */
    number: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER - 1 }),
    /** Its environment, where it has one: a guest without memory is given it again. */
    env: Type.Optional(Type.Record(Type.String(), Type.String())),
  },
  { additionalProperties: false },
);
export type CapturedIdentity = Static<typeof CapturedIdentity>;

/** Largest file that is read, bytes. */
export const maxIdentityBytes = 2 ** 20;

export function toCaptured({ accessToken, number, env }: HeldIdentity): CapturedIdentity {
  return { access_token: accessToken, number, ...(env ? { env: { ...env } } : {}) };
}

export function toHeld({ access_token, number, env }: CapturedIdentity): HeldIdentity {
  return { accessToken: access_token, number, ...(env ? { env } : {}) };
}
