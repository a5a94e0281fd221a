/**
 * `until-ready.mjs perch-host|perchd`: waits until the daemon that systemd has just started answers anything at all, or
 * has ended. A bundle of its own, since units may not depend on a checkout.
 */
import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { dataPaths, readSettings } from '@perch/protocol';

const pollMs = 50;
const answerMs = 5000;
const settings = readSettings();
/** Of the daemon, by systemd.exec(5). */
const { MAINPID: pid } = process.env;

function answers(): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const signal = AbortSignal.timeout(answerMs);
  const call =
    process.argv[2] === 'perchd'
      ? request(`http://${settings.listen}/health`, { signal })
      : request({ socketPath: dataPaths(settings.dataDir).hostSocket, path: '/v1/host', signal });
  call.once('error', () => resolve(false));
  call.once('response', (answer) => {
    answer.resume();
    resolve(true);
  });
  call.end();
  return promise;
}

while (!(await answers())) {
  if (!existsSync(`/proc/${pid}`)) {
    process.exitCode = 1;
    break;
  }
  await sleep(pollMs);
}
