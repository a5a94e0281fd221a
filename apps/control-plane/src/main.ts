import { exitCannotStart, failuresOf } from '@perch/node-kit';
import { ConfigError, readConfig } from './config/index.ts';
import { startControlPlane } from './control-plane.ts';
import { armFailpointsOf } from './failpoints/index.ts';
import { createLog } from './log/index.ts';

process.title = 'perchd';
// Files of this process are for its user alone.
process.umask(0o077);

async function main(): Promise<void> {
  const config = readConfig();
  // Children and crash reports must not see what is read already.
  for (const name of ['PERCH_API_KEY', 'DATABASE_URL']) delete process.env[name];
  const log = createLog(config.logLevel);
  if (config.failpoints) {
    log.warn({ file: config.failpoints }, 'this process ends or waits where the file says');
    armFailpointsOf(config.failpoints);
  }
  process.on('unhandledRejection', (error) => {
    log.fatal({ err: error }, 'a promise nobody waits for was rejected');
    process.exitCode = 1;
    process.kill(process.pid, 'SIGTERM');
  });
  const stop = Promise.withResolvers<NodeJS.Signals>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.resolve(signal));
  await using perchd = await startControlPlane(config, log);
  log.info({ url: perchd.url }, 'perchd listens');
  log.info({ signal: await stop.promise }, 'perchd stops');
}

try {
  await main();
  process.exit();
} catch (error) {
  // Lines like all others of the log; the launcher shows the message of the last.
  const failures = failuresOf(error);
  for (const err of failures.toReversed()) createLog().fatal({ err }, 'perchd cannot start');
  process.exit(failures[0] instanceof ConfigError ? exitCannotStart : 1);
}
