import { findUser, lineThatAdds, type User } from '@perch/node-kit';
import { CliError } from '../errors.ts';

/** @throws CliError when the machine has no such user */
export async function lookUpUser(name: string): Promise<User> {
  const user = await findUser(name);
  if (user) return user;
  throw new CliError(`There is no user ${name}.`, `Make it: ${lineThatAdds(name)}`);
}
