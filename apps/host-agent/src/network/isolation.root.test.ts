/** The reach of a guest, and who can reach a guest, shown with real namespaces and real packets. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { inNamespace, nft, runIn } from '../linux/index.ts';
import { createNetworkLayer, type NetworkLayer } from './index.ts';
import { maxConnections, maxRefusals } from './slot-rules.ts';
import { guest as constants, slotSpace } from './slots.ts';
import {
  arp,
  echoRequest,
  ethernet,
  etherType,
  isRefusal,
  type Packet,
  protocol,
  tcp,
  tcpFlag,
  udp,
  vlan,
} from './testing/frames.ts';
import { RawGuest } from './testing/guest.ts';
import { leftovers } from './testing/leftovers.ts';
import { quietLog } from './testing/log.ts';
import { closedAddresses, privateDns, publicAddress, tcpPort, uplink, World } from './testing/world.ts';

const cidr = '10.11.0.0/16';
const perchUid = 64123;
/** A service of the host, as carelessly open as can be. */
const hostPort = 7070;
const guestPort = 49983;

let world: World;
let network: NetworkLayer;
let guest: RawGuest;
let neighbour: RawGuest;
let hostAddress: string;
const hostServer = createServer((socket) => socket.end());

beforeAll(async () => {
  world = await World.create();
  hostServer.listen(hostPort, '0.0.0.0');
  await once(hostServer, 'listening');
  network = createNetworkLayer({
    instance: world.instance,
    cidr,
    uplinkDns: privateDns,
    poolSize: 0,
    quarantineMs: 1000,
    perchUid,
    log: quietLog,
  });
  await network.start([]);
  guest = await RawGuest.open(await network.acquire());
  neighbour = await RawGuest.open(await network.acquire());
  hostAddress = slotSpace(world.instance, cidr).plan(guest.slot.number).hostAddress;
});

afterAll(async () => {
  hostServer.close();
  guest?.[Symbol.dispose]();
  neighbour?.[Symbol.dispose]();
  await network?.stop({ remove: true });
  const left = await leftovers(world.instance);
  await world[Symbol.asyncDispose]();
  expect(left).toEqual([]);
});

let lastPort = 20_000;

beforeEach(async () => {
  guest.read();
  neighbour.read();
  lastPort += 100;
  await world.forget();
});

const syn = (to: string, toPort: number, from?: string) =>
  tcp({ to, toPort, fromPort: ++lastPort, flags: tcpFlag.syn, ...(from ? { from } : {}) });

const isSynAck = ({ flags }: Packet) => flags === (tcpFlag.syn | tcpFlag.ack);

/** Beside the fence, nothing got out, and nothing got to the host or the neighbour. @returns what came back */
async function answersToClosed(): Promise<Packet[]> {
  const answers = await guest.fence(publicAddress);
  expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: publicAddress, proto: 'icmp' }]);
  expect(await world.seenByHost()).toEqual([]);
  expect(neighbour.read()).toEqual([]);
  return [...answers, ...guest.read()];
}

async function expectOnlyFence(): Promise<void> {
  expect(await answersToClosed()).toEqual([]);
}

/** Nothing came back but word that it is closed, for each try. */
async function expectRefusals(tries: { tcp: number; others: number }): Promise<void> {
  const answers = await answersToClosed();
  expect(answers.filter((packet) => !isRefusal(packet))).toEqual([]);
  expect(answers.every(({ to, link }) => to === constants.address && link.to === constants.mac)).toBe(true);
  expect(answers.filter(({ proto }) => proto === protocol.tcp)).toHaveLength(tries.tcp);
  expect(answers.filter(({ proto }) => proto === protocol.icmp)).toHaveLength(tries.others);
}

describe('a guest reaches', () => {
  test('a public address, under the address of the host', async () => {
    guest.send(syn(publicAddress, tcpPort));
    const answer = await guest.receive('SYN-ACK', isSynAck);
    expect(answer).toMatchObject({ from: publicAddress, to: constants.address, fromPort: tcpPort });
    expect(answer.link).toEqual({ from: constants.gatewayMac, to: constants.mac });
    guest.reset(answer, 1001);
    expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: publicAddress, proto: 'tcp' }]);
  });

  test('a public address by ping', async () => {
    guest.send(echoRequest(publicAddress));
    await guest.receive('echo reply', ({ proto, from }) => proto === protocol.icmp && from === publicAddress);
  });

  test('the resolver behind its gateway, by UDP, though that has a private address', async () => {
    const data = Buffer.from('question');
    guest.send(udp({ to: constants.gateway, toPort: 53, fromPort: ++lastPort, data }));
    const answer = await guest.receive('answer', ({ proto }) => proto === protocol.udp);
    expect(answer).toMatchObject({ from: constants.gateway, fromPort: 53, toPort: lastPort });
    expect(String(answer.data)).toBe('answer:question');
    expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: privateDns, proto: 'udp' }]);
  });

  test('the resolver behind its gateway, by TCP', async () => {
    guest.send(syn(constants.gateway, 53));
    const answer = await guest.receive('SYN-ACK', isSynAck);
    expect(answer).toMatchObject({ from: constants.gateway, fromPort: 53 });
    guest.reset(answer, 1001);
  });

  test('its gateway by ARP, with the same answer in every slot', async () => {
    for (const one of [guest, neighbour]) {
      one.sendFrame(arp({ target: constants.gateway }));
      const answer = await one.receive('ARP reply', ({ type }) => type === etherType.arp);
      expect(answer).toMatchObject({ from: constants.gateway, fromMac: constants.gatewayMac });
    }
  });
});

describe('a guest does not reach', () => {
  test.each(closedAddresses)('%s, which is there for the host', async (address) => {
    using socket = openFromHost(address, tcpPort);
    await socket.connected;
    socket.resetAndDestroy();
    await world.forget();
    guest.send(syn(address, tcpPort));
    guest.send(syn(address, 53));
    guest.send(udp({ to: address, toPort: 53, fromPort: ++lastPort, data: Buffer.from('question') }));
    guest.send(echoRequest(address));
    await expectRefusals({ tcp: 2, others: 2 });
  });

  const knockAtHost = (address: string) => {
    guest.send(syn(address, hostPort));
    guest.send(udp({ to: address, toPort: hostPort, fromPort: ++lastPort, data: Buffer.from('x') }));
    guest.send(echoRequest(address));
  };

  test.each([
    ['on its uplink', () => uplink.host],
    ['on its end of the veth pair', () => hostAddress],
    ['by way of the slot address', () => guest.slot.address],
    ['by way of the gateway', () => constants.gateway],
  ])('the host %s', async (_, address) => {
    knockAtHost(address());
    await expectRefusals({ tcp: 1, others: 2 });
  });

  // The kernel answers to none of these.
  test.each([
    ['on the loopback', '127.0.0.1'],
    ['by way of 0.0.0.0', '0.0.0.0'],
    ['by broadcast', '255.255.255.255'],
    ['by multicast', '224.0.0.1'],
  ])('the host %s', async (_, address) => {
    knockAtHost(address);
    await expectOnlyFence();
  });

  test('the networks that the host is attached to, though their addresses are public', async () => {
    guest.send(syn(uplink.beyond, tcpPort));
    await expectRefusals({ tcp: 1, others: 0 });
  });

  test('another guest, nor the other end of its slot', async () => {
    const plan = slotSpace(world.instance, cidr).plan(neighbour.slot.number);
    for (const address of [plan.address, plan.hostAddress]) {
      guest.send(syn(address, guestPort));
      guest.send(udp({ to: address, toPort: 53, fromPort: ++lastPort, data: Buffer.from('x') }));
      guest.send(echoRequest(address));
    }
    await expectRefusals({ tcp: 2, others: 4 });
  });

  test('the host or a closed address by a redirection that another program has set up', async () => {
    await nft(`table ip other {
  chain elsewhere {
    type nat hook prerouting priority dstnat - 10; policy accept;
    ip daddr ${uplink.host} tcp dport 8080 dnat to ${publicAddress}:${tcpPort}
    ip daddr ${publicAddress} tcp dport 8081 dnat to 10.99.0.54:${tcpPort}
    ip daddr ${publicAddress} tcp dport 8082 dnat to ${uplink.host}:${hostPort}
  }
}
`);
    onTestFinished(() => nft('delete table ip other\n'));
    guest.send(syn(uplink.host, 8080));
    guest.send(syn(publicAddress, 8081));
    guest.send(syn(publicAddress, 8082));
    // The first is refused where it enters, before the redirection.
    await expectRefusals({ tcp: 1, others: 0 });
  });

  test('a slot that does not exist', async () => {
    const { number } = guest.slot;
    const absent = [1, 2, 3].find((n) => n !== number && n !== neighbour.slot.number) ?? 4;
    guest.send(syn(slotSpace(world.instance, cidr).plan(absent).address, guestPort));
    await expectRefusals({ tcp: 1, others: 0 });
  });

  test('anything through its gateway but the resolver', async () => {
    for (const port of [22, 54, 80, hostPort]) guest.send(syn(constants.gateway, port));
    guest.send(udp({ to: constants.gateway, toPort: 123, fromPort: ++lastPort, data: Buffer.from('x') }));
    await expectRefusals({ tcp: 4, others: 1 });
  });

  test(`more than ${maxConnections} connections at a time`, async () => {
    const other = await RawGuest.open(await network.acquire());
    try {
      await nftCount(world.internet);
      for (let i = 0; i < maxConnections + 500; i++) {
        other.send(
          udp({
            to: publicAddress,
            toPort: 1000 + (i % 8),
            fromPort: 1024 + (i >> 3),
            data: Buffer.from('x'),
          }),
        );
      }
      const arrived = await nftCount(world.internet);
      expect(arrived).toBeGreaterThan(maxConnections / 2);
      expect(arrived).toBeLessThanOrEqual(maxConnections + 1);
    } finally {
      other[Symbol.dispose]();
      await network.release(other.slot.number);
    }
  });
});

test.each([
  ['by its slot', closedAddresses[0] ?? ''],
  ['by the host', uplink.beyond],
])(
  'a guest that floods closed addresses is refused no more than a bound in a second %s',
  async (_, address) => {
    const other = await RawGuest.open(await network.acquire());
    try {
      const tries = 20 * maxRefusals;
      const begin = performance.now();
      const answers: Packet[] = [];
      for (let i = 0; i < tries; i++) {
        other.send(tcp({ to: address, toPort: tcpPort, fromPort: 1024 + i, flags: tcpFlag.syn }));
        // The kernel's queue between namespaces has room for 1000 packets: the fence behind more of them may be lost.
        if (i % 200 === 199) answers.push(...(await other.fence(publicAddress)));
      }
      const seconds = (performance.now() - begin) / 1000;
      expect(answers.every(isRefusal)).toBe(true);
      expect(answers.length).toBeGreaterThanOrEqual(maxRefusals);
      expect(answers.length).toBeLessThanOrEqual(Math.min(tries, maxRefusals * (1 + seconds) + 1));
      // Its neighbour has a bound of its own.
      guest.send(syn(address, tcpPort));
      await guest.receive('refusal', isRefusal);
    } finally {
      other[Symbol.dispose]();
      await network.release(other.slot.number);
    }
  },
);

/** Packets to a public address that arrived beyond since the last call. */
async function nftCount(namespace: string): Promise<number> {
  const rules = `table inet perch-count {
  chain count {
    type filter hook prerouting priority 310; policy accept;
    meta l4proto udp ip daddr ${publicAddress} counter
  }
}
`;
  const list = 'list table inet perch-count';
  const before = await runIn(namespace, 'nft', list.split(' ')).catch(() => ({ stdout: '' }));
  await runIn(namespace, 'nft', ['-f', '-'], {
    input: `table inet perch-count\ndelete table inet perch-count\n${rules}`,
  });
  return Number(/packets (\d+)/.exec(before.stdout)?.[1] ?? 0);
}

describe('what a guest sends is dropped when it has', () => {
  const packet = () => syn(publicAddress, tcpPort);
  const ip = etherType.ipv4;
  let tap: Awaited<ReturnType<World['watchTap']>>;

  beforeAll(async () => {
    tap = await world.watchTap(guest.slot.namespace);
  });

  /** Nothing else got as far as the first rule, routing decision or neighbour table behind the tap. */
  async function expectDropAtTap(): Promise<void> {
    await expectOnlyFence();
    const fence = { from: constants.address, to: publicAddress, proto: 'icmp' };
    expect(await tap.what()).toEqual({ ipv4: [fence], others: 0 });
  }

  test.each<[string, () => Buffer]>([
    ['another MAC', () => ethernet(ip, packet(), { from: '02:fc:00:00:00:99' })],
    ['the MAC of its gateway', () => ethernet(ip, packet(), { from: constants.gatewayMac })],
    ['a public source address', () => ethernet(ip, syn(publicAddress, tcpPort, '198.51.100.99'))],
    ['the address of its gateway', () => ethernet(ip, syn(publicAddress, tcpPort, constants.gateway))],
    ['its own slot address', () => ethernet(ip, syn(publicAddress, tcpPort, guest.slot.address))],
    ["another slot's address", () => ethernet(ip, syn(publicAddress, tcpPort, neighbour.slot.address))],
    ['the source 0.0.0.0', () => ethernet(ip, syn(publicAddress, tcpPort, '0.0.0.0'))],
    ['a source on the loopback', () => ethernet(ip, syn(publicAddress, tcpPort, '127.0.0.1'))],
    ['a VLAN tag', () => vlan(7, ip, packet())],
    ['a VLAN tag and another source', () => vlan(7, ip, syn(publicAddress, tcpPort, '198.51.100.99'))],
    ['a priority tag and another source', () => vlan(0, ip, syn(publicAddress, tcpPort, '198.51.100.99'))],
    ['IPv6', () => ethernet(etherType.ipv6, neighbourSolicitation())],
    [
      'IPv6 to all nodes',
      () => ethernet(etherType.ipv6, neighbourSolicitation(), { to: '33:33:00:00:00:01' }),
    ],
    ['an unknown protocol', () => ethernet(0x88b5, Buffer.alloc(46))],
    ['nothing but a header', () => ethernet(ip, Buffer.alloc(0))],
    ['half an IPv4 header', () => ethernet(ip, packet().subarray(0, 11))],
    ['ARP for an address that is not the gateway', () => arp({ target: guest.slot.address })],
    ['ARP in the name of another address', () => arp({ sender: '169.254.0.23', target: constants.gateway })],
    ['ARP in the name of the gateway', () => arp({ sender: constants.gateway, target: constants.gateway })],
    ['ARP from another MAC', () => arp({ senderMac: '02:fc:00:00:00:99', target: constants.gateway })],
    [
      'ARP whose frame has another MAC',
      () => arp({ target: constants.gateway, link: { from: '02:fc:00:00:00:99' } }),
    ],
  ])('%s', async (_, frame) => {
    await tap.forget();
    try {
      guest.sendFrame(frame());
    } catch (error) {
      // The driver refuses what is no frame at all.
      expect(error).toMatchObject({ code: 'EINVAL' });
    }
    await expectDropAtTap();
  });

  test('an unasked ARP reply: where the guest is found does not change', async () => {
    const operation = 'reply';
    guest.sendFrame(arp({ operation, senderMac: '02:fc:00:00:00:99', target: constants.gateway }));
    guest.sendFrame(arp({ operation, target: constants.gateway }));
    await guest.fence(publicAddress);
    const { stdout } = await runIn(guest.slot.namespace, 'ip', ['neigh', 'show', 'dev', constants.tap]);
    expect(stdout.trim()).toBe(`${constants.address} lladdr ${constants.mac} PERMANENT`);
  });
});

/** Hop limit 255, next header ICMPv6, as a guest with IPv6 sends it when its link comes up. */
function neighbourSolicitation(): Buffer {
  const packet = Buffer.alloc(64);
  packet.set([0x60, 0, 0, 0, 0, 24, 58, 255]);
  packet.set([0xfe, 0x80], 8);
  packet[23] = 1;
  packet.set([0xff, 0x02], 24);
  packet[39] = 1;
  packet[40] = 135;
  return packet;
}

describe('the host', () => {
  test('reaches every port of a guest at its slot address, and is its gateway to the guest', async () => {
    using socket = openFromHost(guest.slot.address, guestPort);
    const first = await guest.receive('SYN', ({ flags }) => flags === tcpFlag.syn);
    expect(first).toMatchObject({ from: constants.gateway, to: constants.address, toPort: guestPort });
    expect(first.link).toEqual({ from: constants.gatewayMac, to: constants.mac });
    guest.send(
      tcp({
        to: constants.gateway,
        toPort: first.fromPort ?? 0,
        fromPort: guestPort,
        flags: tcpFlag.syn | tcpFlag.ack,
        seq: 5000,
        ack: (first.seq ?? 0) + 1,
      }),
    );
    await socket.connected;
    socket.write('hello');
    const data = await guest.receive('data', (packet) => (packet.data?.length ?? 0) > 0);
    expect(String(data.data)).toBe('hello');
    guest.reset(first, 5001);
  });

  test.each([0, perchUid])('lets user %i connect to a guest', async (uid) => {
    const attempt = connectAs(uid, guest.slot.address);
    await guest.receive('SYN', ({ flags, toPort }) => flags === tcpFlag.syn && toPort === guestPort);
    attempt.kill();
  });

  // A connection whose packets were only dropped would try again for two minutes.
  test.each([65534, perchUid + 1])('refuses user %i at once', async (uid) => {
    const attempt = connectAs(uid, guest.slot.address);
    expect(await attempt.ended).not.toBe(0);
    expect(guest.read()).toEqual([]);
  });

  test('refuses a user without rights at once over UDP too', async () => {
    const { stdout } = await runIn(undefined, 'setpriv', [
      ...['--reuid', '65534', '--regid', '65534', '--clear-groups', 'bash', '-c'],
      `exec 3<>/dev/udp/${guest.slot.address}/53; echo x >&3; sleep 0.05; echo x >&3 || echo refused`,
    ]);
    expect(stdout).toContain('refused');
    expect(guest.read()).toEqual([]);
  });

  test('refuses connections to slots that do not exist, instead of sending them to its uplink', async () => {
    using socket = openFromHost(slotSpace(world.instance, cidr).plan(4321).address, guestPort);
    await expect(socket.connected).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    expect(await world.seenBeyond()).toEqual([]);
  });

  test('reaches a guest from its end of the pair only, so that nothing meant for an earlier tenant arrives', async () => {
    const socket = connect({ host: guest.slot.address, port: guestPort, localAddress: uplink.host });
    socket.on('error', () => {});
    await sleep(20);
    expect(await guest.fence(publicAddress)).toEqual([]);
    socket.destroy();
  });

  test('forwards nothing to a guest that the guest did not ask for', async () => {
    await runIn(world.internet, 'ip', ['route', 'add', cidr, 'via', uplink.host]);
    const probe = inNamespace(world.internet, () =>
      execFile('bash', [
        '-c',
        `echo x > /dev/udp/${guest.slot.address}/${guestPort}; timeout 0.3 bash -c 'exec 3<>/dev/tcp/${guest.slot.address}/${guestPort}'`,
      ]),
    );
    await once(probe, 'exit');
    expect(probe.exitCode).not.toBe(0);
    expect(guest.read()).toEqual([]);
    await runIn(world.internet, 'ip', ['route', 'del', cidr]);
  });

  test('has no IPv6 towards or inside a slot', async () => {
    const inside = await runIn(guest.slot.namespace, 'ip', ['-6', 'addr', 'show']);
    expect(inside.stdout).toBe('');
    const { veth } = slotSpace(world.instance, cidr).plan(guest.slot.number);
    expect((await runIn(undefined, 'ip', ['-6', 'addr', 'show', 'dev', veth])).stdout).toBe('');
  });
});

/** bash needs no file that only root can read. */
function connectAs(uid: number, address: string): { ended: Promise<number | null>; kill(): void } {
  const user = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups'];
  const child = execFile('setpriv', [...user, 'bash', '-c', `exec 3<>/dev/tcp/${address}/${guestPort}`]);
  return { ended: once(child, 'exit').then(([code]) => code), kill: () => child.kill('SIGKILL') };
}

function openFromHost(host: string, port: number): Socket & Disposable & { connected: Promise<unknown> } {
  const socket = connect({ host, port });
  const connected = once(socket, 'connect');
  connected.catch(() => {});
  socket.on('error', () => {});
  return Object.assign(socket, { connected, [Symbol.dispose]: () => socket.destroy() });
}
