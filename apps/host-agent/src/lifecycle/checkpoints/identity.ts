/** `identity.json` of a snapshot: what the guest agent in its memory believes. */
import { type Static, Type } from 'typebox';

export const CapturedIdentity = Type.Object(
  {
    /** Opens the guest agent. */
    access_token: Type.String({ minLength: 1, maxLength: 1024 }),
    /** Of the last identity that the guest was given; the next must be higher. */
    number: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER - 1 }),
  },
  { additionalProperties: false },
);
export type CapturedIdentity = Static<typeof CapturedIdentity>;
