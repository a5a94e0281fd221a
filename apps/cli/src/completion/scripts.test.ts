import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { createOutput } from '../output.ts';
import { createProgram } from '../program.ts';
import { completionScript, shells } from './scripts.ts';

const program = await createProgram(createOutput(false));

test.each(shells)('the script for %s knows every command and option', (shell) => {
  const script = completionScript(program, shell);
  for (const command of program.commands) {
    expect(script).toContain(command.name());
    for (const { long } of command.options) expect(script).toContain(long?.slice(2));
    for (const below of command.commands) expect(script).toContain(below.name());
  }
});

test.each(shells)('the script for %s completes ids after pause and resume', (shell) => {
  const script = completionScript(program, shell);
  expect(script).toMatch(
    {
      bash: /pause\|resume\|.*words="\$\(perch ls/,
      zsh: /pause\) _arguments .*_perch_ids/,
      fish: /pause resume .*perch ls/,
    }[shell],
  );
});

test('bash completes with it', async () => {
  const lines = `COMP_WORDS=(perch d) COMP_CWORD=1; _perch; echo "\${COMPREPLY[@]}"
    COMP_WORDS=(perch down --k) COMP_CWORD=2; _perch; echo "\${COMPREPLY[@]}"
    COMP_WORDS=(perch template r) COMP_CWORD=2; _perch; echo "\${COMPREPLY[@]}"
    COMP_WORDS=(perch template ready base --c) COMP_CWORD=4; _perch; echo "\${COMPREPLY[@]}"`;
  const script = `${completionScript(program, 'bash')}\n${lines}`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script]);
  expect(stdout).toBe('down doctor\n--keep\nready\n--count\n');
});
