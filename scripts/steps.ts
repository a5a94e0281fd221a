/** Runs the commands of a check one after another and says how long each took. */
import { spawn } from 'node:child_process';
import { styleText } from 'node:util';

export interface Step {
  name: string;
  command: readonly [file: string, ...args: string[]];
  env?: Record<string, string>;
}

/** @returns names of the steps that failed; all are run */
export async function runSteps(steps: readonly Step[]): Promise<string[]> {
  const failed: string[] = [];
  for (const step of steps) {
    const start = performance.now();
    console.log(styleText('bold', `▶ ${step.name}`));
    const ok = (await exitCode(step)) === 0;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${ok ? styleText('green', '✓') : styleText('red', '✗')} ${step.name} (${seconds} s)\n`);
    if (!ok) failed.push(step.name);
  }
  return failed;
}

function exitCode({ command: [file, ...args], env }: Step): Promise<number | null> {
  const { promise, resolve } = Promise.withResolvers<number | null>();
  const child = spawn(file, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  child.once('error', (error) => {
    console.error(`${file} could not be started: ${error.message}`);
    resolve(null);
  });
  child.once('exit', resolve);
  return promise;
}
