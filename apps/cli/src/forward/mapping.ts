import { InvalidArgumentError } from 'commander';

export interface Mapping {
  /** Of this machine; 0: one that is free. */
  local: number;
  /** Of the sandbox. */
  port: number;
}

/** Of a repeated argument. @throws InvalidArgumentError for what is no `8080:80` and no `80` */
export function mapping(text: string, before: readonly Mapping[] = []): Mapping[] {
  const match = /^(?:(\d{1,5}):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  const local = Number(match?.[1] ?? port);
  if (!(port >= 1 && port <= 65_535 && local <= 65_535)) {
    throw new InvalidArgumentError('Write it as LOCAL:PORT, such as 8080:80, or as PORT.');
  }
  return [...before, { local, port }];
}
