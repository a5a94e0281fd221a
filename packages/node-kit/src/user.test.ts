import { expect, test } from 'vitest';
import { findUser } from './user.ts';

test('a user has ids and a home', async () => {
  expect(await findUser('root')).toEqual({ name: 'root', uid: 0, gid: 0, home: '/root' });
});

test.each(['no-such-user-of-perch', '--help', ''])('there is no user %j', async (name) => {
  expect(await findUser(name)).toBeUndefined();
});
