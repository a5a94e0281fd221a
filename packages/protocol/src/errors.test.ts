import { expect, test } from 'vitest';
import { type errorRemedy, errorStatus, isPerchError, PerchError } from './errors.ts';

test('an error survives the way through its body', () => {
  const sent = new PerchError('sandbox_not_found', 'No sandbox sbx.', { id: 'sbx' });
  const received = PerchError.fromBody(JSON.parse(JSON.stringify(sent.toBody())));
  expect(received).toBeInstanceOf(PerchError);
  expect(isPerchError(received, 'sandbox_not_found') && received.details.id).toBe('sbx');
  expect(received?.status).toBe(404);
});

test('a body that is not ours is not taken for an error', () => {
  for (const body of [
    null,
    'text',
    {},
    { error: 'x' },
    { error: { code: 'toString' } },
    { error: { code: 1 } },
  ]) {
    expect(PerchError.fromBody(body)).toBeUndefined();
  }
});

test('every status is an HTTP error status', () => {
  for (const [code, status] of Object.entries(errorStatus)) {
    expect(status, code).toBeGreaterThanOrEqual(400);
    expect(status, code).toBeLessThan(600);
  }
});

test('a code without status, remedy or description does not compile', () => {
  // @ts-expect-error
  const status: typeof errorStatus = { internal: 500 };
  // @ts-expect-error
  const remedy: typeof errorRemedy = { internal: 'Report it.' };
  // @ts-expect-error
  const description: typeof errorDescription = { internal: { when: 'A fault.', after: 'Unknown.' } };
  expect([status, remedy, description]).toHaveLength(3);
});
