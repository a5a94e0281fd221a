/** The calls of E2B's JavaScript SDK, each against the same without it: by `/v1`, or straight to the guest agent. */
import { randomBytes } from 'node:crypto';
import { Sandbox } from 'e2b';
import { createGuestClient } from '../packages/guest-client/src/index.ts';
import { asE2bKey } from '../packages/protocol/src/index.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { untilStanding } from '../tests/setup/ready.ts';
import { accessTo } from './access.ts';
import type { Measure } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';
import { memoryOf } from './processes.ts';

const calls = { n: 100, warmUp: 20 };
const creates = 50;
const standing = 2;
/** What the SDK runs for a line. */
const shell = { cmd: '/bin/bash', args: ['-l', '-c', 'true'] };

export const e2b: Measure = async ({ atMost, signal, progress }) => {
  await using instance = await PerchInstance.start({ network: 217, env: { PERCH_READY: String(standing) } });
  const { sandboxes } = instance.perch;
  const options = {
    ...{ apiUrl: instance.url, sandboxUrl: instance.url, apiKey: asE2bKey(instance.key) },
    timeoutMs: 3_600_000,
  };
  progress('a create from a ready guest by the SDK, against one by /v1');
  const made = await inTurn(
    {
      samples: async () => {
        await untilStanding(instance.dataDir, standing);
        const began = performance.now();
        const box = await Sandbox.create(options);
        const ms = performance.now() - began;
        await box.kill();
        return ms;
      },
      floor: async () => {
        await untilStanding(instance.dataDir, standing);
        const began = performance.now();
        const { id } = await sandboxes.create({ timeout_sec: 3600 });
        const ms = performance.now() - began;
        await sandboxes.delete(id);
        return ms;
      },
    },
    { n: Math.min(creates, atMost), warmUp: 1, signal },
  );

  const box = await Sandbox.create(options);
  await untilStanding(instance.dataDir, standing + 1);
  progress('a command by the SDK, against the same call straight to the guest agent');
  await using straight = createGuestClient(await accessTo(instance, box.sandboxId));
  const ran = await inTurn(
    {
      samples: () => timed(() => box.commands.run('true')),
      floor: () =>
        timed(async () => {
          const { events } = await straight.start({
            ...shell,
            stdin: false,
            timeoutMs: 60_000,
            leash: 'end',
          });
          for await (const _ of events);
        }),
    },
    { ...calls, signal },
  );

  progress('1 MiB written and read by the SDK');
  const data = new Blob([randomBytes(2 ** 20)]);
  const moved = await inTurn(
    {
      samples: () =>
        timed(async () => {
          await box.files.write('bench.bin', data);
          await box.files.read('bench.bin', { format: 'bytes' });
        }),
    },
    { ...calls, signal },
  );
  const { rss } = memoryOf(instance.pid('perchd'));
  await box.kill();
  return [
    {
      ...{ name: 'Sandbox.create() from a ready guest, against /v1', unit: 'ms' },
      ...{ samples: made.samples, floor: made.floor, targets: { ratio_p50: 1.3 } },
    },
    {
      ...{ name: "commands.run('true'), against the guest agent", unit: 'ms' },
      ...{ samples: ran.samples, floor: ran.floor, targets: { ratio_p50: 1.3 } },
    },
    {
      ...{ name: 'files.write and files.read of 1 MiB', unit: 'ms' },
      ...{ samples: moved.samples, targets: { p50: 60 } },
    },
    {
      ...{ name: 'memory of perchd (RSS) after these', unit: 'MB' },
      ...{ samples: [rss / 1e6], targets: { p50: 130 } },
    },
  ];
};
