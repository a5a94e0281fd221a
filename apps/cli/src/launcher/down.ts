/** `perch down`: stops the daemons, and unless told to keep them destroys the sandboxes first. */
import type { HostSocket } from '@perch/host-client';
import type { HostSandbox, Settings } from '@perch/protocol';
import { CliError } from '../errors.ts';
import { stopUnits, unitsRun } from '../systemd/index.ts';
import { isUp, send } from './control-socket.ts';
import { hostAgent, prepare } from './daemons.ts';
import { earlierDaemonsEnded } from './earlier-daemons.ts';
import { HostGone, hostSocket } from './host-socket.ts';
import { readInstance } from './layout.ts';
import { answersInTime } from './start-limits.ts';
import { requireRoot } from './up.ts';

export interface DownOptions {
  /** Where a host agent of its own has its settings from. */
  env: NodeJS.ProcessEnv;
  /** Leave the sandboxes running, for the next `perch up` to adopt. */
  keep: boolean;
  /** Asked with what would be destroyed; false stops here. */
  confirm: (sandboxes: HostSandbox[]) => Promise<boolean>;
  report: (line: string) => void;
}

/** @throws CliError when what was asked could not be done whole */
export async function down(settings: Settings, options: DownOptions): Promise<void> {
  requireRoot();
  const { dataDir } = settings;
  if ((await readInstance(dataDir)) === undefined) {
    options.report(`Perch has never run on ${dataDir}.`);
    return;
  }
  const units = await unitsRun(dataDir);
  const running = units || (await isUp(dataDir));
  const stop = async (remove: boolean) => {
    if (!units) return await stopDaemons(dataDir, remove);
    await stopUnits();
    options.report('systemd starts them again with the machine, or by: systemctl start perchd');
    return false;
  };
  if (options.keep) {
    if (running) await stop(false);
    options.report('Stopped. Sandboxes run on.');
    return;
  }
  const host = hostSocket(dataDir);
  // A Perch that only starts, or stops by itself already, has no host agent that answers, or not for long.
  const destroyed = running && (await host.answers()) ? await destroyAllUnlessGone(host, options) : 'gone';
  if (destroyed === 'declined') return;
  if (running && (await stop(destroyed === 'destroyed'))) {
    options.report('Stopped. Nothing is left running.');
    return;
  }
  await removeWithout(settings, options);
}

type Outcome = 'destroyed' | 'declined';

async function destroyAllUnlessGone(host: HostSocket, options: DownOptions): Promise<Outcome | 'gone'> {
  try {
    return await destroyAll(host, options);
  } catch (error) {
    if (error instanceof HostGone) return 'gone';
    throw error;
  }
}

/** While the control plane runs, so that it learns of each end. @throws HostGone */
async function destroyAll(host: HostSocket, options: DownOptions): Promise<Outcome> {
  const sandboxes = await host.sandboxes();
  if (sandboxes.length > 0 && !(await options.confirm(sandboxes))) return 'declined';
  await Promise.all(
    sandboxes.map(async ({ id }) => {
      await host.destroy(id);
      options.report(`Destroyed ${id}.`);
    }),
  );
  return 'destroyed';
}

/** @returns whether what they had is removed */
async function stopDaemons(dataDir: string, remove: boolean): Promise<boolean> {
  const answer = await send(dataDir, { command: 'stop', remove });
  if (answer && !answer.ok)
    throw new CliError(`Not everything could be stopped: ${answer.message}`, 'Try `perch down` again.');
  return answer?.removed ?? false;
}

/** No daemon runs: a host agent of its own does the work, as only it knows what there is. */
async function removeWithout(settings: Settings, options: DownOptions): Promise<void> {
  await earlierDaemonsEnded(settings.dataDir);
  const prepared = await prepare(settings, options.env);
  const daemon = hostAgent(prepared, (_name, how) => options.report(`perch-host ended: ${how}`));
  const host = hostSocket(settings.dataDir);
  daemon.start();
  try {
    if (!(await answersInTime(daemon, () => host.answers()))) {
      throw new CliError(
        `perch-host does not start. ${daemon.lastWords}`,
        'Mend that, and try `perch down` again.',
      );
    }
    if ((await destroyAll(host, options)) === 'declined') return;
    await daemon.expectEnd(() => host.shutdown(true));
    options.report('Nothing is left running.');
  } finally {
    await daemon.stop();
  }
}
