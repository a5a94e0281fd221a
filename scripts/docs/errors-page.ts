/** docs/ERRORS.md, of the tables in packages/protocol. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ErrorCode,
  type ErrorDescription,
  errorGroups,
  errorRemedy,
  errorStatus,
} from '@perch/protocol';

const source = 'packages/protocol/src/errors.ts';

const head = `# Errors

<!-- Written by \`npm run docs\` from ${source} and error-descriptions/ beside it. -->

Every answer that is an error has one form: \`{"error": {"code", "message", "remedy", "details"}}\`. The message is for a person, \`code\` and \`details\` are for programs. A code keeps its meaning and is never used for another. The command line shows message and remedy, and the code with \`--json\`. A stream sends the same as its last message.

An answer with status 502, 503 or 504 says least about the outcome; each paragraph says what is known. 503 and 429 come with Retry-After.
`;

/** @param root folder of the repository */
export function errorsPage(root: string): string {
  const details = shapesOf(readFileSync(join(root, source), 'utf8'));
  const groups = Object.entries(errorGroups).map(([title, group]) => {
    const codes = Object.entries(group) as [ErrorCode, ErrorDescription][];
    return [`## ${title}`, ...codes.map(([code, text]) => paragraph(code, text, details))].join('\n\n');
  });
  return `${[head.trim(), ...groups].join('\n\n')}\n`;
}

function paragraph(code: ErrorCode, { when, after }: ErrorDescription, details: Map<string, string>): string {
  const shape = details.get(code);
  if (shape === undefined) throw new Error(`${source} has no shape of the details of ${code}.`);
  const shown = shape === 'Record<string, never>' ? 'none' : `\`${shape}\``;
  return [
    `### ${code}`,
    `*${errorStatus[code]}.* ${when}`,
    `*Afterwards:* ${after} *To do:* ${errorRemedy[code]} *Details:* ${shown}.`,
  ].join('\n\n');
}

/** The type of each code's details as it is written in the source, on one line. */
function shapesOf(text: string): Map<string, string> {
  const body = /export interface ErrorContexts \{\n([\s\S]*?)\n\}/.exec(text)?.[1] ?? '';
  const entries = body.split(/\n(?= {2}\w)/).map((entry) => /^ {2}(\w+): ([\s\S]*);$/.exec(entry));
  return new Map(
    entries.map((entry) => [
      entry?.[1] ?? '',
      (entry?.[2] ?? '').replace(/\s+/g, ' ').replace(/; \}/g, ' }'),
    ]),
  );
}
