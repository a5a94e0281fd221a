/** The failures in vitest's JSON report. */
import { relative } from 'node:path';

/** The part of it that is read; its shape is Jest's. */
export interface Report {
  numPassedTests?: number;
  numFailedTests?: number;
  numPendingTests?: number;
  numTodoTests?: number;
  testResults?: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

/** Each failure of a report: the file, the test, and the first lines of what it said. */
export function failuresOf({ testResults = [] }: Report): string[] {
  return testResults
    .filter(({ status }) => status === 'failed')
    .flatMap(({ name, message, assertionResults }) => {
      const file = relative(process.cwd(), name);
      const failed = assertionResults.filter(({ status }) => status === 'failed');
      if (failed.length === 0) return [`FAILED ${file}\n${beginning(message)}`];
      return failed.map(
        ({ fullName, failureMessages }) =>
          `FAILED ${file} > ${fullName}\n${beginning(failureMessages.join('\n'))}`,
      );
    });
}

function beginning(text: string): string {
  return text.split('\n').slice(0, 30).join('\n');
}
