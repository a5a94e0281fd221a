/** The console of a guest whose monitor may not answer. */
import type { Vm } from '../../vmm/index.ts';

/** `perchd` waits 5 s for the answer of a host agent that has to read the console first. */
const waitMs = 1500;
const notice = '\n[perch] The VM monitor does not answer: this may not be the newest of the console.\n';

/** What the monitor gives; or what it gave before, with a line that says so, when it does not answer soon. */
export async function consoleOf(vm: Pick<Vm, 'console' | 'keptConsole'>): Promise<Buffer> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(resolve, waitMs, undefined);
  try {
    const read = await Promise.race([vm.console(), late]);
    return read ?? Buffer.concat([vm.keptConsole(), Buffer.from(notice)]);
  } finally {
    clearTimeout(timer);
  }
}
