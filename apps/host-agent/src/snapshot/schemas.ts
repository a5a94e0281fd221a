/** Shapes that the JSON files of a snapshot share. */
import { Type } from 'typebox';
import { buildIdPattern } from './build-id.ts';

export const BuildIdText = Type.String({ pattern: buildIdPattern });

/** SHA-256, hexadecimal. */
export const ContentId = Type.String({ pattern: '^[0-9a-f]{64}$' });

/** A length or an offset. */
export const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
