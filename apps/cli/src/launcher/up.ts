/** `perch up`: starts both daemons, keeps them running, and stops them when told to. Sandboxes live on. */
import { dataPaths, type Settings } from '@perch/protocol';
import { CliError } from '../errors.ts';
import { unitsRun } from '../systemd/index.ts';
import { tlsFiles } from '../tls/index.ts';
import { healthy, requireFreeAddress } from './address.ts';
import { type Answer, claim, isUp } from './control-socket.ts';
import type { Daemon } from './daemon.ts';
import { controlPlane, hostAgent, type Prepared, prepare } from './daemons.ts';
import { earlierDaemonsEnded } from './earlier-daemons.ts';
import { takeFirstKey } from './first-key.ts';
import { hostSocket } from './host-socket.ts';
import { removeOtherPrograms } from './programs.ts';
import { renewOrTell } from './renew-or-tell.ts';
import { answersInTime } from './start-limits.ts';

export type UpEvent =
  | { event: 'step'; name: string; ms: number }
  | { event: 'crash'; daemon: string; how: string }
  | { event: 'certificate'; problem: string }
  | { event: 'api_key'; key: string; file: string }
  | {
      event: 'ready';
      url: string;
      data_dir: string;
      instance: string;
      pids: Record<string, number | undefined>;
    }
  | { event: 'stopped' };

const renewEveryMs = 24 * 3600 * 1000;

/**
 * Runs until SIGINT, SIGTERM or `perch down`.
 * @throws CliError when Perch cannot run, before anything is started
 */
export async function up(settings: Settings, report: (event: UpEvent) => void): Promise<void> {
  requireRoot();
  const stop = Promise.withResolvers<void>();
  const over = new AbortController();
  let remove = false;
  const stopped = Promise.withResolvers<Answer>();
  const started = performance.now();
  let last = started;
  const step = (name: string) => {
    const now = performance.now();
    report({ event: 'step', name, ms: Math.round(now - last) });
    last = now;
  };

  // The directory before the address: who types it twice is told which Perch has both.
  if (await isUp(settings.dataDir)) throw runsAlready(settings.dataDir);
  if (await unitsRun(settings.dataDir)) throw runsBySystemd(settings.dataDir);
  if ((await earlierDaemonsEnded(settings.dataDir)).length > 0) step('end of the daemons before');
  await requireFreeAddress(settings.listen);
  const prepared = await prepare(settings);
  step('programs');
  const renew = () =>
    renewOrTell(tlsFiles(settings.dataDir), prepared.perch, (problem) =>
      report({ event: 'certificate', problem }),
    );
  if (await renew()) step('certificate');
  const server = await claim(settings.dataDir, (command) => {
    remove ||= command.remove;
    stop.resolve();
    return stopped.promise;
  });
  if (!server) throw runsAlready(settings.dataDir);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => stop.resolve());
  }
  const onCrash = (daemon: string, how: string) => report({ event: 'crash', daemon, how });
  const host = hostAgent(prepared, onCrash);
  const control = controlPlane(prepared, onCrash);
  let answer: Answer = { ok: true, removed: false };
  try {
    const begin = async () => {
      await removeOtherPrograms(dataPaths(settings.dataDir).bin, prepared.programs);
      host.start();
      await ready(host, prepared, over.signal, () => hostSocket(settings.dataDir).answers());
      step('perch-host');
      control.start();
      await ready(control, prepared, over.signal, () => healthy(settings.listen));
      step('perchd');
      const key = await takeFirstKey(settings);
      if (key) report({ event: 'api_key', ...key });
      report({
        event: 'ready',
        url: `http://${settings.listen}`,
        data_dir: settings.dataDir,
        instance: prepared.instance,
        pids: { 'perch-host': host.pid, perchd: control.pid },
      });
    };
    // A Perch that runs for a year outlives a certificate.
    using _ = every(renewEveryMs, () => void renew());
    await Promise.race([begin().then(() => stop.promise), stop.promise]);
    over.abort();
    await control.stop();
    if (remove) {
      await host.expectEnd(() => hostSocket(settings.dataDir).shutdown(true));
      answer = { ok: true, removed: true };
    }
  } catch (error) {
    answer = { ok: false, message: error instanceof Error ? error.message : String(error) };
    throw error;
  } finally {
    await control.stop();
    await host.stop();
    report({ event: 'stopped' });
    stopped.resolve(answer);
    server.close();
  }
}

function every(ms: number, work: () => void): Disposable {
  const timer = setInterval(work, ms);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new CliError('Perch needs root for virtual machines and networks.', 'Type it again with sudo.');
}

function runsAlready(dataDir: string): CliError {
  return new CliError(
    `Perch runs on ${dataDir} already.`,
    'Stop it with `perch down --keep`, or set PERCH_DATA_DIR, PERCH_LISTEN and PERCH_NETWORK to run another.',
  );
}

function runsBySystemd(dataDir: string): CliError {
  return new CliError(
    `systemd runs Perch on ${dataDir} already.`,
    'Stop it with `perch down --keep`, or set PERCH_DATA_DIR, PERCH_LISTEN and PERCH_NETWORK to run another.',
  );
}

/** @throws the reason of `over` when nobody waits for it any more */
async function ready(
  daemon: Daemon,
  { settings }: Prepared,
  over: AbortSignal,
  check: () => Promise<boolean>,
): Promise<void> {
  if (!(await answersInTime(daemon, check, over))) {
    const { log } = dataPaths(settings.dataDir);
    throw new CliError(`${daemon.name} does not start. ${daemon.lastWords}`, `Its log is in ${log}.`);
  }
  daemon.markReady();
}
