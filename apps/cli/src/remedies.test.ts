import { type ErrorCode, errorRemedy } from '@perch/protocol';
import { expect, test } from 'vitest';
import { createOutput } from './output.ts';
import { createProgram } from './program.ts';
import { remedyOf } from './remedies.ts';

const codes = Object.keys(errorRemedy) as ErrorCode[];
/** Routes, methods, headers and fields of the API. */
const wordsOfTheApi =
  /\/v1\/|\/docs\b|\b(GET|POST|PUT|DELETE|Retry-After|X-API-Key|header)\b|exec\/stream|\w_\w|\bdetails\b/;

test.each(codes)('the remedy of %s is one for the command line', (code) => {
  expect(remedyOf(code).replaceAll(/PERCH_[A-Z_]+/g, '')).not.toMatch(wordsOfTheApi);
});

test('the commands and options that a remedy names are there', async () => {
  const program = await createProgram(createOutput(false));
  const commands = program.commands.map((command) => command.name());
  const flags = [
    program,
    ...program.commands,
    ...program.commands.flatMap(({ commands: inner }) => inner),
  ].flatMap(({ options }) => options.map(({ long }) => long));
  for (const remedy of codes.map(remedyOf)) {
    for (const [, command] of remedy.matchAll(/`perch (\w+)/g)) expect(commands).toContain(command);
    for (const [flag] of remedy.matchAll(/--[a-z-]+/g)) {
      if (flag !== '--help') expect(flags.map((one) => one?.replace('--no-', '--'))).toContain(flag);
    }
  }
});
