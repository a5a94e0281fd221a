/** `npm run lab -- CMD`: runs a command in the lab host. */
import { BuildError, cacheDir } from '../images/index.ts';
import { PerchError } from '../packages/protocol/src/index.ts';
import { LabDied } from './died.ts';
import { takeDown } from './down.ts';
import { help, type LabRun, readOptions } from './options.ts';
import { runOnce } from './run.ts';

const exitCodes = { usage: 2, noLab: 69, labDied: 75 };

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const { stdin, stdout } = process;
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions(args, stdin.isTTY && stdout.isTTY ? stdout : undefined);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    return exitCodes.usage;
  }
  if (options === 'help' || options === 'down') {
    console.log(options === 'help' ? help : await takeDown(cacheDir()));
    return 0;
  }
  try {
    return await runAgain(options);
  } catch (error) {
    if (error instanceof BuildError) console.error(`✗ ${error.message}\n  ${error.remedy}`);
    else console.error(error instanceof PerchError ? `✗ ${error.message}` : error);
    return exitCodes.noLab;
  }
}

/** Once more, as often as was allowed, when the lab died. Each time is said, and the sum in the last line. */
async function runAgain(run: LabRun): Promise<number> {
  for (let deaths = 0; ; ) {
    let code: number | undefined;
    try {
      code = await runOnce({ ...run, fresh: run.fresh && deaths === 0 });
      if (code === exitCodes.labDied) throw new LabDied('The command said that the lab had died.');
    } catch (error) {
      if (!(error instanceof LabDied)) throw error;
      code = undefined;
      deaths++;
      console.error(error.message);
      if (deaths <= run.repeat) continue;
    }
    if (deaths > 0) {
      const [died, runs] = [deaths, deaths + (code === undefined ? 0 : 1)].map(times);
      console.error(`lab: run ${runs}, since the lab died ${died}`);
    }
    return code ?? exitCodes.labDied;
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
