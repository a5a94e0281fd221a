/**
 * A host with an Internet, all of it inside this machine: a namespace stands for everything beyond the
 * host's uplink, and answers on public, private and metadata addresses alike.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { inNamespace, ipBatch, nft, runIn } from '../../linux/index.ts';
import { enterPrivateNetwork } from '../../linux/netns-testing.ts';

export const publicAddress = '198.51.100.7';
export const privateDns = '10.99.0.53';
export const uplink = { host: '203.0.113.1', beyond: '203.0.113.2' };
/** Addresses beyond the uplink that no guest may reach. */
export const closedAddresses = [
  '10.99.0.53',
  '10.99.0.54',
  '172.16.5.5',
  '192.168.77.1',
  '100.64.1.1',
  '169.254.169.254',
  '168.63.129.16',
  '192.0.0.192',
  '198.18.0.1',
];
export const tcpPort = 80;

/** The resolver echoes with `answer:` before it; every address accepts TCP on 53 and 80. */
const server = `
  const dgram = require('node:dgram');
  const net = require('node:net');
  const udp = dgram.createSocket('udp4');
  udp.on('message', (data, { address, port }) => udp.send(Buffer.concat([Buffer.from('answer:'), data]), port, address));
  const open = [new Promise((done) => udp.bind(53, '${privateDns}', done))];
  for (const port of [53, ${tcpPort}]) {
    open.push(new Promise((done) => net.createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (data) => socket.write('answer:' + data));
    }).listen(port, '0.0.0.0', done)));
  }
  Promise.all(open).then(() => console.log('ready'));
`;

/** Notes every IPv4 packet that gets to a hook from outside. */
const recorder = (hook: string, priority: number) => `
table inet perch-recorder {
  set seen {
    typeof ip saddr . ip daddr . meta l4proto; flags dynamic; size 65535;
  }
  chain record {
    type filter hook ${hook} priority ${priority}; policy accept;
    iifname != "lo" meta nfproto ipv4 add @seen { ip saddr . ip daddr . meta l4proto }
  }
}
`;

const tapRecorder = (tap: string) => `
table inet perch-recorder {
  counter ipv6_seen {
  }
  set seen {
    typeof ip saddr . ip daddr . meta l4proto; flags dynamic; size 65535;
  }
  chain record {
    type filter hook prerouting priority raw; policy accept;
    iifname "${tap}" meta nfproto ipv6 counter name ipv6_seen
    iifname "${tap}" meta nfproto ipv4 add @seen { ip saddr . ip daddr . meta l4proto }
  }
}
table arp perch-recorder {
  counter arp_seen {
  }
  chain record {
    type filter hook input priority 0; policy accept;
    iifname "${tap}" counter name arp_seen
  }
}
`;

export interface TapTraffic {
  ipv4: Seen[];
  /** Packets of ARP and IPv6. */
  others: number;
}

export interface Seen {
  from: string;
  to: string;
  proto: string;
}

export class World implements AsyncDisposable {
  /** Short and random, so that test files that run side by side do not meet under /run/netns. */
  readonly instance = `t${randomBytes(8).readBigUInt64LE().toString(36).slice(-5)}`;
  readonly internet = `perch-test-${this.instance}`;
  #server: ChildProcess | undefined;

  static async create(): Promise<World> {
    await enterPrivateNetwork();
    const world = new World();
    try {
      await world.#build();
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
    return world;
  }

  async #build(): Promise<void> {
    await ipBatch([
      `netns add ${this.internet}`,
      `link add uplink0 type veth peer name beyond0 netns ${this.internet}`,
      `addr add ${uplink.host}/30 dev uplink0`,
      'link set uplink0 up',
    ]);
    await ipBatch(
      [
        'link set lo up',
        `addr add ${uplink.beyond}/30 dev beyond0`,
        'link set beyond0 up',
        ...[publicAddress, ...closedAddresses].map((address) => `addr add ${address}/32 dev lo`),
      ],
      { namespace: this.internet },
    );
    await ipBatch([`route add default via ${uplink.beyond}`]);
    await nft(recorder('prerouting', 300), this.internet);
    await nft(recorder('input', 300));
    this.#server = inNamespace(this.internet, () =>
      spawn(process.execPath, ['-e', server], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    if (this.#server.stdout) await once(this.#server.stdout, 'data');
  }

  /** Packets that got beyond the uplink since the last `forget`. */
  seenBeyond(): Promise<Seen[]> {
    return readRecorder(this.internet);
  }

  /** Packets that were delivered to the host since the last `forget`. */
  seenByHost(): Promise<Seen[]> {
    return readRecorder(undefined);
  }

  /** Notes from now on what gets past the tap of a slot; `what` tells. Made for one slot once. */
  async watchTap(namespace: string): Promise<{ forget(): Promise<void>; what(): Promise<TapTraffic> }> {
    const tables = tapRecorder('tap0');
    await nft(tables, namespace);
    return {
      forget: () =>
        nft(`delete table inet perch-recorder\ndelete table arp perch-recorder\n${tables}`, namespace),
      what: async () => {
        const counted = await runIn(namespace, 'nft', ['list', 'counters']);
        const [arp = 0, ipv6 = 0] = [...counted.stdout.matchAll(/packets (\d+)/g)].map(([, n]) => Number(n));
        return { ipv4: await readRecorder(namespace), others: arp + ipv6 };
      },
    };
  }

  async forget(): Promise<void> {
    await nft('flush set inet perch-recorder seen\n', this.internet);
    await nft('flush set inet perch-recorder seen\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server && this.#server.exitCode === null) {
      this.#server.kill('SIGKILL');
      await once(this.#server, 'exit');
    }
    await ipBatch([`netns del ${this.internet}`]);
  }
}

async function readRecorder(namespace: string | undefined): Promise<Seen[]> {
  const { stdout } = await runIn(namespace, 'nft', ['-j', 'list', 'set', 'inet', 'perch-recorder', 'seen']);
  const { nftables } = JSON.parse(stdout) as { nftables: { set?: { elem?: unknown[] } }[] };
  const elements = nftables.flatMap(({ set }) => set?.elem ?? []);
  return elements.map((element) => {
    const wrapped = element as { elem?: { val: { concat: string[] } }; concat?: string[] };
    const [from = '', to = '', proto = ''] = wrapped.concat ?? wrapped.elem?.val.concat ?? [];
    return { from, to, proto: String(proto) };
  });
}
