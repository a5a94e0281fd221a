/** The life of the network layer: start, restart, sweep, stop, with real namespaces. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { ipBatch, listNamespaces, nft, run, runIn } from '../linux/index.ts';
import { createNetworkLayer, type NetworkLayer, type NetworkLayerOptions } from './index.ts';
import { guest as constants, slotSpace } from './slots.ts';
import { isRefusal, type Packet, protocol, tcp, tcpFlag, udp } from './testing/frames.ts';
import { RawGuest } from './testing/guest.ts';
import { leftovers } from './testing/leftovers.ts';
import { MemoryLog, quietLog } from './testing/log.ts';
import { privateDns, publicAddress, tcpPort, uplink, World } from './testing/world.ts';

const cidr = '10.11.0.0/16';
let world: World;

beforeAll(async () => {
  world = await World.create();
});

afterAll(() => world[Symbol.asyncDispose]());

/** @returns protocols of the first packets that come, each of which says that a try is refused */
async function refusals(guest: RawGuest, count: number): Promise<(number | undefined)[]> {
  const seen: Packet[] = [];
  while (seen.length < count) seen.push(await guest.receive('refusal', isRefusal, seen));
  expect(seen.every(isRefusal)).toBe(true);
  return seen.map(({ proto }) => proto).sort((a = 0, b = 0) => a - b);
}

/** A layer that is taken down when the test ends, with all that the instance has. */
function newLayer(options: Partial<NetworkLayerOptions> = {}): NetworkLayer {
  const instance = options.instance ?? world.instance;
  const layer = createNetworkLayer({
    instance,
    cidr,
    uplinkDns: privateDns,
    poolSize: 0,
    quarantineMs: 1000,
    perchUid: 64123,
    log: quietLog,
    ...options,
  });
  onTestFinished(async () => {
    await layer.stop({ remove: true });
    expect(await leftovers(instance)).toEqual([]);
  });
  return layer;
}

async function until(what: string, isTrue: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 30_000; !isTrue(); await sleep(5)) {
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
  }
}

const isSynAck = ({ flags }: Packet) => flags === (tcpFlag.syn | tcpFlag.ack);

describe('the network layer', () => {
  test('fills its pool, gives slots out and takes all of one down again', async () => {
    const layer = newLayer({ poolSize: 2 });
    await layer.start([]);
    await until('two slots are ready', () => layer.counts().ready === 2);
    const slot = await layer.acquire();
    expect(layer.describe(slot.number)).toEqual(slot);
    expect(listNamespaces(slot.namespace)).toEqual([slot.namespace]);
    await layer.release(slot.number);
    await layer.release(slot.number);
    expect(listNamespaces(slot.namespace)).toEqual([]);
    const { veth } = slotSpace(world.instance, cidr).plan(slot.number);
    expect(await leftovers(world.instance)).not.toContain(`link ${veth}`);
    expect(layer.counts().used).toBe(0);
  });

  test('finds what has a name of the instance and is nobody’s, and removes it', async () => {
    const layer = newLayer({ poolSize: 1 });
    await layer.start([]);
    await until('a slot is ready', () => layer.counts().ready === 1);
    const [ours, foreign] = [await layer.acquire(), 32_000];
    await until('a slot is ready', () => layer.counts().ready === 1);
    const { instance } = world;
    const [namespace, table] = [`perch-${instance}-${foreign}`, `ip perch-${instance}`];
    const none = await layer.unowned(() => [ours.number]);
    expect(none).toEqual([]);
    await ipBatch([`netns add ${namespace}`]);
    await nft(`table ${table}\n`);
    const found = await layer.unowned(() => [ours.number]);
    expect(found.map(({ what }) => what)).toEqual([`network slot ${namespace}`, `nft table ${table}`]);
    for (const { remove } of found) await remove();
    expect(await layer.unowned(() => [ours.number])).toEqual([]);
    // A process that the caller has lost.
    const [lost] = await layer.unowned(() => []);
    expect(lost?.what).toBe(`network slot ${ours.namespace}`);
    await lost?.remove();
    expect(layer.counts().used).toBe(0);
    expect(listNamespaces(ours.namespace)).toEqual([]);
  });

  test('sweeps tables by its names that are not its own', async () => {
    const table = `ip perch-${world.instance}`;
    await nft(`table ${table}\n`);
    const layer = newLayer();
    await layer.start([]);
    expect(await layer.unowned(() => [])).toEqual([]);
  });

  test('makes many slots at once', async () => {
    const layer = newLayer({ poolSize: 2 });
    await layer.start([]);
    const slots = await Promise.all(Array.from({ length: 12 }, () => layer.acquire()));
    expect(new Set(slots.map(({ address }) => address)).size).toBe(12);
    expect(new Set(slots.map(({ uid }) => uid)).size).toBe(12);
    expect(layer.counts().used).toBe(12);
  });

  test('says so when the range has no slot left', async () => {
    const layer = newLayer({ cidr: '10.11.0.0/28', poolSize: 2 });
    await layer.start([]);
    await Promise.all(Array.from({ length: 7 }, () => layer.acquire()));
    await expect(layer.acquire()).rejects.toMatchObject({ code: 'capacity_exhausted' });
  });

  test('lists what it left on the machine, and leaves nothing when it is told so', async () => {
    const layer = newLayer();
    await layer.start([]);
    const { namespace, number } = await layer.acquire();
    await layer.stop();
    expect((await leftovers(world.instance)).sort()).toEqual([
      `link pch${world.instance}-${number}`,
      `network namespace ${namespace}`,
      `nftables table inet perch-${world.instance}`,
    ]);
    await layer.stop({ remove: true });
    expect(await leftovers(world.instance)).toEqual([]);
  });

  test('keeps the slots in use and their open connections over a restart, and sweeps the others', async () => {
    const before = newLayer({ poolSize: 1 });
    await before.start([]);
    const kept = await before.acquire();
    const stale = await before.acquire();
    using guest = await RawGuest.open(kept);
    const flow = { to: publicAddress, toPort: tcpPort, fromPort: 41000 };
    guest.send(tcp({ ...flow, flags: tcpFlag.syn, seq: 1000 }));
    const opened = await guest.receive('SYN-ACK', isSynAck);
    const ack = (opened.seq ?? 0) + 1;
    guest.send(tcp({ ...flow, flags: tcpFlag.ack, seq: 1001, ack }));

    const after = newLayer({ poolSize: 0 });
    await after.start([kept.number]);
    expect(listNamespaces(`perch-${world.instance}-`)).toEqual([kept.namespace]);
    expect(after.counts()).toMatchObject({ used: 1, ready: 0 });
    guest.send(tcp({ ...flow, flags: tcpFlag.ack | tcpFlag.psh, seq: 1001, ack, data: 'still here' }));
    const answer = await guest.receive('answer', ({ data }) => (data?.length ?? 0) > 0);
    expect(String(answer.data)).toBe('answer:still here');
    guest.reset(answer, 1011);
    expect((await after.acquire()).number).not.toBe(stale.number);
    await after.release(kept.number);
  });

  test('sends questions of a kept slot to the new resolver after a restart', async () => {
    const before = newLayer({ uplinkDns: '10.99.0.99' });
    await before.start([]);
    using guest = await RawGuest.open(await before.acquire());
    const after = newLayer({ uplinkDns: privateDns });
    await after.start([guest.slot.number]);
    guest.send(udp({ to: constants.gateway, toPort: 53, fromPort: 42001, data: Buffer.from('q') }));
    const answer = await guest.receive('answer', ({ proto }) => proto === protocol.udp);
    expect(answer.from).toBe(constants.gateway);
  });

  test('reaches a resolver that runs on the host, and nothing else there', async () => {
    const resolver = createSocket('udp4').on('message', (_, { port, address }) =>
      resolver.send('local', port, address),
    );
    resolver.bind(53, uplink.host);
    const service = createServer().listen(7070, uplink.host);
    await Promise.all([once(resolver, 'listening'), once(service, 'listening')]);
    const layer = newLayer({ uplinkDns: uplink.host });
    await layer.start([]);
    using guest = await RawGuest.open(await layer.acquire());
    await world.forget();
    for (const to of [uplink.host, constants.gateway]) {
      guest.send(tcp({ to, toPort: 7070, fromPort: 42100, flags: tcpFlag.syn }));
      guest.send(udp({ to, toPort: 54, fromPort: 42101, data: Buffer.from('q') }));
    }
    guest.send(udp({ to: constants.gateway, toPort: 53, fromPort: 42102, data: Buffer.from('q') }));
    expect(String((await guest.receive('answer', ({ proto }) => proto === protocol.udp)).data)).toBe('local');
    const { address } = guest.slot;
    expect(await world.seenByHost()).toEqual([{ from: address, to: uplink.host, proto: 'udp' }]);
    resolver.close();
    service.close();
  });

  test('refuses questions when there is no resolver, and says so in the log', async () => {
    const log = new MemoryLog();
    const layer = newLayer({ uplinkDns: undefined, log });
    await layer.start([]);
    using guest = await RawGuest.open(await layer.acquire());
    await world.forget();
    guest.send(udp({ to: constants.gateway, toPort: 53, fromPort: 42200, data: Buffer.from('q') }));
    guest.send(tcp({ to: constants.gateway, toPort: 53, fromPort: 42201, flags: tcpFlag.syn }));
    expect(await refusals(guest, 2)).toEqual([protocol.icmp, protocol.tcp]);
    expect(await world.seenBeyond()).toEqual([]);
    expect(await world.seenByHost()).toEqual([]);
    expect(log.lines.map(({ text }) => text).join()).toContain('PERCH_DNS');
  });

  test('sweeps what a crash left half made', async () => {
    const { instance } = world;
    await ipBatch([`netns add perch-${instance}-77`]);
    await ipBatch([`link add pch${instance}-78 type veth peer name tst78`]);
    await ipBatch([`netns add perch-${instance}-40000`]);
    const layer = newLayer();
    await layer.start([]);
    expect(await leftovers(instance)).toEqual([`nftables table inet perch-${instance}`]);
  });

  test('removes a slot that was given back before the start', async () => {
    const before = newLayer();
    await before.start([]);
    const { number } = await before.acquire();
    const after = newLayer();
    await after.release(number);
    expect(await leftovers(world.instance)).toEqual([`nftables table inet perch-${world.instance}`]);
    await after.start([]);
    expect(after.counts().used).toBe(0);
  });

  test('removes a slot whose tap a process still holds', async () => {
    const layer = newLayer();
    await layer.start([]);
    using guest = await RawGuest.open(await layer.acquire());
    await layer.release(guest.slot.number);
    expect(await leftovers(world.instance)).toEqual([`nftables table inet perch-${world.instance}`]);
  });

  test('a tap has one holder', async () => {
    const layer = newLayer();
    await layer.start([]);
    using guest = await RawGuest.open(await layer.acquire());
    await expect(RawGuest.open(guest.slot)).rejects.toMatchObject({ code: 'EBUSY' });
  });

  test('gives a tap to the next monitor after the first has ended', async () => {
    const layer = newLayer();
    await layer.start([]);
    const slot = await layer.acquire();
    (await RawGuest.open(slot))[Symbol.dispose]();
    using guest = await RawGuest.open(slot);
    guest.send(tcp({ to: publicAddress, toPort: tcpPort, fromPort: 43000, flags: tcpFlag.syn }));
    guest.reset(await guest.receive('SYN-ACK', isSynAck), 1001);
  });

  test('warns of a firewall that keeps sandboxes from the Internet', async () => {
    await nft('table inet other {\nchain f {\ntype filter hook forward priority 0; policy drop;\n}\n}\n');
    onTestFinished(() => nft('delete table inet other\n'));
    const log = new MemoryLog();
    await newLayer({ log }).start([]);
    expect(log.lines.map(({ text }) => text).join()).toContain(
      `iptables -I FORWARD -i pch${world.instance}-+`,
    );
  });
});

describe('a range that is not free', () => {
  async function refusal(options: Partial<NetworkLayerOptions>): Promise<string> {
    return newLayer(options)
      .start([])
      .then(
        () => 'not refused',
        (error: Error) => error.message,
      );
  }

  test.each([
    ['addr add 10.11.7.1/24 dev uplink0', 'addr del 10.11.7.1/24 dev uplink0', /10\.11\.7\.\S+ .*uplink0/],
    ['addr add 10.11.7.1/32 dev lo', 'addr del 10.11.7.1/32 dev lo', /the address 10\.11\.7\.1 of lo/],
    ['route add 10.0.0.0/8 dev uplink0', 'route del 10.0.0.0/8 dev uplink0', /the route to 10\.0\.0\.0\/8/],
    [
      'route add 10.11.9.0/24 dev uplink0 table 77',
      'route del 10.11.9.0/24 dev uplink0 table 77',
      /the route to 10\.11\.9/,
    ],
  ])('because of "ip %s" is refused, with one that is', async (add, undo, why) => {
    await ipBatch([add]);
    onTestFinished(() => ipBatch([undo]));
    const message = await refusal({});
    expect(message).toMatch(why);
    const free = /Set PERCH_NETWORK to a free range, for example PERCH_NETWORK=(\S+)\.$/.exec(message)?.[1];
    expect(await refusal({ cidr: free ?? '' })).toBe('not refused');
  });

  test.each(['10.11.0.0/16', '10.11.3.0/24'])(
    'because another instance has it (%s) is refused',
    async (other) => {
      await newLayer({ instance: 'zzz', cidr: other }).start([]);
      const message = await refusal({});
      expect(message).toContain(
        'PERCH_NETWORK is 10.11.0.0/16, which overlaps the Perch instance zzz on this machine. ' +
          'Set PERCH_NETWORK to a free range, for example PERCH_NETWORK=10.12.0.0/16. If its data directory',
      );
      expect(await leftovers(world.instance)).toEqual([]);
    },
  );

  test('because of an instance that nobody can take down any more is freed by the line that is named', async () => {
    const lost = newLayer({ instance: 'zzz' });
    await lost.start([]);
    const { namespace } = await lost.acquire();
    const held = runIn(namespace, 'sleep', ['60']).catch((error: unknown) => error);
    const line = /removes what it left: (.*)$/.exec(await refusal({}))?.[1];
    await run('sh', ['-c', line ?? 'false']);
    expect(await held).toMatchObject({ outcome: 'unknown' });
    // The kernel takes its time for the links of a namespace that has gone.
    await expect.poll(() => leftovers('zzz')).toEqual([]);
    expect(await refusal({})).toBe('not refused');
  });

  test('is noticed also when two instances start at the same moment', async () => {
    const results = await Promise.all([refusal({ instance: 'zza' }), refusal({ instance: 'zzb' })]);
    expect(results.filter((result) => result === 'not refused')).toHaveLength(1);
  });

  test('is no matter between ranges that lie side by side', async () => {
    await newLayer({ instance: 'zzz', cidr: '10.12.0.0/16' }).start([]);
    expect(await refusal({})).toBe('not refused');
  });

  test('is not what a default route, a VPN over it or a dead route means', async () => {
    const routes = ['0.0.0.0/1 dev uplink0', 'unreachable 10.0.0.0/8'];
    await ipBatch(routes.map((route) => `route add ${route}`));
    onTestFinished(() => ipBatch(routes.map((route) => `route del ${route}`)));
    expect(await refusal({})).toBe('not refused');
  });
});

test('two instances side by side do not reach each other, and the end of one leaves the other alone', async () => {
  const one = newLayer();
  const two = newLayer({ instance: 'zzz', cidr: '10.12.0.0/16' });
  await Promise.all([one.start([]), two.start([])]);
  using here = await RawGuest.open(await one.acquire());
  using there = await RawGuest.open(await two.acquire());
  for (const port of [49983, 80]) {
    here.send(tcp({ to: there.slot.address, toPort: port, fromPort: 44000, flags: tcpFlag.syn }));
    there.send(tcp({ to: here.slot.address, toPort: port, fromPort: 44000, flags: tcpFlag.syn }));
  }
  for (const guest of [here, there]) expect(await refusals(guest, 2)).toEqual([protocol.tcp, protocol.tcp]);
  await two.stop({ remove: true });
  here.send(tcp({ to: publicAddress, toPort: tcpPort, fromPort: 44001, flags: tcpFlag.syn }));
  here.reset(await here.receive('SYN-ACK', isSynAck), 1001);
  expect((await runIn(undefined, 'nft', ['list', 'tables'])).stdout).not.toContain('perch-zzz');
});
