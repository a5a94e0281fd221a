/** What a run of vitest came to, as a file that `suites.ts` reads. vitest's JSON report leaves out the errors of hooks. */
import { writeFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite } from 'vitest/node';

export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  /** A text for each failure: the file, the test, and how what it said begins and ends. */
  failures: string[];
}

/** Where the reporter writes. */
export const outcomeVariable = 'PERCH_TEST_OUTCOME';

export default class OutcomeReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const path = process.env[outcomeVariable];
    if (path === undefined) throw new Error(`${outcomeVariable} names no file`);
    writeFileSync(path, JSON.stringify(outcomeOf(modules, unhandled)));
  }
}

function outcomeOf(modules: readonly TestModule[], unhandled: readonly SerializedError[]): Outcome {
  const outcome: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const fail = (where: string, errors: readonly SerializedError[]) => {
    for (const { stack, message } of errors)
      outcome.failures.push(`FAILED ${where}\n${ends(stack ?? message)}`);
  };
  for (const module of modules) {
    const nameOf = ({ fullName }: TestCase | TestSuite) => `${module.relativeModuleId} > ${fullName}`;
    fail(module.relativeModuleId, module.errors());
    for (const suite of module.children.allSuites()) fail(nameOf(suite), suite.errors());
    for (const test of module.children.allTests()) {
      const { state, errors = [] } = test.result();
      outcome[state === 'pending' ? 'skipped' : state]++;
      if (state === 'failed') fail(nameOf(test), errors);
    }
  }
  fail('outside any test', unhandled);
  return outcome;
}

/** What failed says so at the beginning of a text or, where the text is what a command printed, at its end. */
function ends(text: string): string {
  const lines = stripVTControlCharacters(text)
    .split('\n')
    .filter((line) => !/^\s+at .*\/node_modules\//.test(line));
  return lines.length <= 40 ? lines.join('\n') : [...lines.slice(0, 15), '…', ...lines.slice(-25)].join('\n');
}
