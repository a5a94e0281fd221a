import { fc, test } from '@fast-check/vitest';
import { isPerchError, newSandboxId } from '@perch/protocol';
import { expect } from 'vitest';
import { decodeCursor, encodeCursor } from './cursor.ts';

test.prop([fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })])(
  'a cursor gives the position back',
  (createdAt) => {
    const position = { createdAt, id: newSandboxId() };
    expect(decodeCursor(encodeCursor(position))).toEqual(position);
  },
);

test.prop([fc.string()])('what is no cursor is refused with its name', (text) => {
  try {
    const { id, createdAt } = decodeCursor(text);
    expect(encodeCursor({ id, createdAt })).toBeTypeOf('string');
  } catch (error) {
    expect(isPerchError(error, 'validation_failed')).toBe(true);
  }
});
