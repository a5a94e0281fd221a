import { findUser, lineThatAdds, type User } from '@perch/node-kit';

/** @throws Error with the line that makes one; RunError when nobody could be asked */
export async function lookUpUser(name: string): Promise<User> {
  const user = await findUser(name);
  if (user) return user;
  throw new Error(`There is no user ${name}. Make it: ${lineThatAdds(name)}`);
}
