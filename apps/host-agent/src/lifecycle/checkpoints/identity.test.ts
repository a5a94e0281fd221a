import { describe, expect } from 'vitest';
import { jsonReader, SnapshotDamaged } from '../../snapshot/index.ts';
import { damage, fc, property, randomBytes } from '../../snapshot/testing.ts';
import { CapturedIdentity } from './identity.ts';

const read = jsonReader(CapturedIdentity, 'identity.json');
const identities = fc.record({
  access_token: fc.string({ minLength: 1, maxLength: 1024 }),
  number: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER - 1 }),
});
const valid = Buffer.from(JSON.stringify({ access_token: 'f'.repeat(64), number: 7 }));

describe('identity.json', () => {
  property.prop([identities])('is read as it was written', (identity) => {
    expect(read(Buffer.from(JSON.stringify(identity)))).toEqual(identity);
  });

  const wrong = fc.oneof(
    fc.json().map((json) => Buffer.from(json)),
    fc
      .record({ access_token: fc.jsonValue(), number: fc.jsonValue() })
      .map((one) => Buffer.from(JSON.stringify(one))),
  );
  property.prop([fc.oneof(randomBytes, damage(valid), wrong)], { numRuns: 1000 })(
    'is one with a token and a next number, or damaged, whatever the bytes are',
    (bytes) => {
      try {
        const { access_token, number } = read(bytes);
        expect(access_token).not.toBe('');
        expect(Number.isSafeInteger(number + 1)).toBe(true);
      } catch (error) {
        if (!(error instanceof SnapshotDamaged)) throw error;
      }
    },
  );
});
