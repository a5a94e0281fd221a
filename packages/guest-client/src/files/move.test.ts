import { type ErrorCode, PerchError } from '@perch/protocol';
import { expect, test } from 'vitest';
import { createGuestClient } from '../index.ts';
import { fakeAgent, jsonAnswer } from '../testing/fake-agent.ts';

/** The error of a move from /from to /to that an agent refuses with `refusal`. */
async function errorOf(refusal: Record<string, unknown>): Promise<[ErrorCode, unknown]> {
  await using agent = await fakeAgent((socket) => socket.end(jsonAnswer('400 Bad Request', refusal)));
  const { port } = agent;
  await using client = createGuestClient({
    address: '127.0.0.1',
    port,
    accessToken: 'secret',
    sandboxId: 'sbtest',
  });
  const error = await client.move('/from', '/to').catch((reason: unknown) => reason);
  if (!(error instanceof PerchError)) throw error;
  const { path } = error.details as { path?: string };
  expect(error.message).toContain(path);
  return [error.code, path];
}

test.each([
  ['read_only', 'source', 'read_only_file_system', '/from'],
  ['read_only', 'destination', 'read_only_file_system', '/to'],
  ['busy', 'destination', 'path_busy', '/to'],
  ['missing', 'destination', 'file_not_found', '/to'],
  ['not_directory', 'source', 'not_a_directory', '/from'],
  ['unsupported', 'source', 'unsupported_by_file_system', '/from'],
])('an error of a move, %s of the %s, names that path', async (reason, subject, code, path) => {
  expect(await errorOf({ code: 'internal', message: 'no', reason, subject })).toEqual([code, path]);
});

test.each([
  ['not_empty', 'directory_not_empty', '/to'],
  ['exists', 'file_exists', '/to'],
  ['not_directory', 'not_a_directory', '/to'],
  ['not_file', 'not_a_file', '/to'],
  ['full', 'disk_full', '/to'],
  ['missing', 'file_not_found', '/from'],
])(
  'of an agent that does not tell the path, %s is about the one that it can be about',
  async (reason, code, path) => {
    expect(await errorOf({ code: 'internal', message: 'no', reason })).toEqual([code, path]);
    expect(await errorOf({ code: 'internal', message: 'no', reason, subject: 'both' })).toEqual([code, path]);
  },
);
