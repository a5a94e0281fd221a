/** A guest stands behind two walls, the rules of its slot and those of the host. Each holds without the other. */
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { inNamespace, nft } from '../linux/index.ts';
import { createNetworkLayer, type NetworkLayer } from './index.ts';
import { slotSpace } from './slots.ts';
import { echoRequest, ethernet, etherType, isRefusal, tcp, tcpFlag, udp } from './testing/frames.ts';
import { RawGuest } from './testing/guest.ts';
import { quietLog } from './testing/log.ts';
import { closedAddresses, privateDns, publicAddress, tcpPort, uplink, World } from './testing/world.ts';

const cidr = '10.11.0.0/16';
let world: World;
let network: NetworkLayer;
let guest: RawGuest;
let neighbour: RawGuest;

beforeAll(async () => {
  world = await World.create();
  const { instance } = world;
  const options = { uplinkDns: privateDns, poolSize: 0, quarantineMs: 1000, perchUid: 64123, log: quietLog };
  network = createNetworkLayer({ instance, cidr, ...options });
  await network.start([]);
});

afterAll(async () => {
  await network?.stop({ remove: true });
  await world[Symbol.asyncDispose]();
});

beforeEach(async () => {
  guest = await RawGuest.open(await network.acquire());
  neighbour = await RawGuest.open(await network.acquire());
  await world.forget();
  return async () => {
    guest[Symbol.dispose]();
    neighbour[Symbol.dispose]();
  };
});

/** All that a slot keeps are the translations without which nothing of it would get anywhere. */
async function breakSlot({ slot }: RawGuest): Promise<void> {
  await nft(
    `flush ruleset
table ip broken {
  chain source {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "eth0" ip saddr 169.254.0.21 snat ip to ${slot.address}
  }
}
`,
    slot.namespace,
  );
}

function knock(address: string): void {
  guest.send(tcp({ to: address, toPort: tcpPort, flags: tcpFlag.syn }));
  guest.send(tcp({ to: address, toPort: 53, flags: tcpFlag.syn }));
  guest.send(udp({ to: address, toPort: 53, data: Buffer.from('q') }));
  guest.send(echoRequest(address));
}

test('the host alone keeps a guest from closed addresses, the host, its attached networks and other slots', async () => {
  await breakSlot(guest);
  await breakSlot(neighbour);
  const { plan } = slotSpace(world.instance, cidr);
  const others = [neighbour.slot.address, plan(neighbour.slot.number).hostAddress];
  const { hostAddress } = plan(guest.slot.number);
  for (const address of [...closedAddresses, uplink.host, uplink.beyond, ...others]) knock(address);
  for (const port of [22, 54, 80]) guest.send(tcp({ to: hostAddress, toPort: port, flags: tcpFlag.syn }));
  expect((await guest.fence(publicAddress)).filter((packet) => !isRefusal(packet))).toEqual([]);
  expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: publicAddress, proto: 'icmp' }]);
  expect(await world.seenByHost()).toEqual([]);
  expect(neighbour.read()).toEqual([]);
});

test('the host alone keeps a slot from using the address of another', async () => {
  await nft('flush ruleset\n', guest.slot.namespace);
  inNamespace(guest.slot.namespace, () => {
    for (const link of ['all', 'tap0']) writeFileSync(`/proc/sys/net/ipv4/conf/${link}/rp_filter`, '0');
  });
  const sources = [neighbour.slot.address, '198.51.100.99', uplink.host, '169.254.0.21'];
  for (const from of sources) {
    guest.send(udp({ from, to: publicAddress, toPort: 53, data: Buffer.from('q') }));
    guest.send(tcp({ from, to: privateDns, toPort: tcpPort, flags: tcpFlag.syn }));
  }
  using other = await RawGuest.open(await network.acquire());
  await other.fence(publicAddress);
  // Whose address it was is not told that something is closed.
  expect(neighbour.read()).toEqual([]);
  expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: publicAddress, proto: 'icmp' }]);
});

test('the slot alone keeps a guest from closed addresses and other slots', async () => {
  await nft(`delete table inet perch-${world.instance}
table inet perch-${world.instance} {
  chain source {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "uplink0" masquerade
  }
}
`);
  for (const address of [...closedAddresses, neighbour.slot.address]) knock(address);
  guest.sendFrame(
    ethernet(etherType.ipv4, tcp({ from: '198.51.100.99', to: publicAddress, toPort: 80, flags: 2 })),
  );
  expect((await guest.fence(publicAddress)).filter((packet) => !isRefusal(packet))).toEqual([]);
  expect(await world.seenBeyond()).toEqual([{ from: uplink.host, to: publicAddress, proto: 'icmp' }]);
  expect(await world.seenByHost()).toEqual([]);
  expect(neighbour.read()).toEqual([]);
});
