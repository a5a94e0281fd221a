import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { closedAddresses, startClosedNet } from './setup/closed-net.ts';
import { eventually } from './setup/eventually.ts';
import { run } from './setup/machine.ts';
import { all, reachFromGuest, reachFromHost } from './setup/reach.ts';
import { newSandbox, sh, sharedPerch, type TestSandbox } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';
import { testHost, testName, uplinkAddress } from './setup/test-internet.ts';

const perch = sharedPerch();
const agentPort = 49983;
const guestPort = 8000;
const gateway = '169.254.0.22';

let one: TestSandbox;
let other: TestSandbox;
const addressOf = ({ host_ip }: TestSandbox) => host_ip ?? '';

/** The even one of each pair of addresses is the host's. */
function hostSideOf(sandbox: TestSandbox): string {
  const [a, b, c, d] = addressOf(sandbox).split('.').map(Number);
  return [a, b, c, (d ?? 0) - 1].join('.');
}

beforeAll(async () => {
  [one, other] = await Promise.all([newSandbox(perch), newSandbox(perch)]);
  for (const { id } of [one, other]) {
    await sh(perch, id, `setsid python3 -m http.server ${guestPort} >/dev/null 2>&1 </dev/null &`);
    const own = `127.0.0.1:${guestPort}`;
    await eventually(async () => (await reachFromGuest(perch, id, [own]))[own] === 'open');
  }
});

afterAll(async () => {
  await Promise.all([one, other].map((sandbox) => sandbox?.[Symbol.asyncDispose]()));
});

describe('a guest reaches', () => {
  test('the Internet by address', async () => {
    expect(await sh(perch, one.id, `curl -sS --max-time 20 http://${testHost}/`)).toBe(
      'hello from the internet\n',
    );
  });

  test('the Internet by name, through the resolver at its gateway', async () => {
    expect(await sh(perch, one.id, 'grep -v "^#" /etc/resolv.conf')).toContain(`nameserver ${gateway}`);
    expect(await sh(perch, one.id, `curl -sS --max-time 20 http://${testName}/`)).toBe(
      'hello from the internet\n',
    );
    const unknown = await perch.sandboxes.exec(one.id, { cmd: 'getent', args: ['hosts', 'unknown.test'] });
    expect(unknown).toMatchObject({ exit_code: 2, stdout: '' });
  });

  test('and downloads a file from it', async () => {
    expect(
      await sh(perch, one.id, `cd /tmp && curl -sSO --max-time 20 http://${testName}/hello && wc -c < hello`),
    ).toBe('24\n');
  });
});

describe('a guest does not reach', () => {
  test('another guest, which the host does reach', async () => {
    const targets = [agentPort, guestPort].map((port) => `${addressOf(other)}:${port}`);
    for (const target of targets) expect(await reachFromHost(target)).toBe('open');
    expect(await reachFromGuest(perch, one.id, targets)).toEqual(all(targets, 'refused'));
  });

  test('its host at any of its addresses', async () => {
    const port = await listenEverywhere();
    const perchPort = new URL(shared.url).port;
    const addresses = [hostSideOf(one), hostSideOf(other), uplinkAddress];
    for (const address of addresses) expect(await reachFromHost(`${address}:${port}`)).toBe('open');
    const targets = [...addresses, gateway, addressOf(one)].flatMap((address) =>
      [port, perchPort].map((each) => `${address}:${each}`),
    );
    expect(await reachFromGuest(perch, one.id, targets)).toEqual(all(targets, 'refused'));
  });

  test('services on the loopback of its host, by its own loopback', async () => {
    const port = await listenEverywhere();
    expect(await reachFromGuest(perch, one.id, [`127.0.0.1:${port}`])).toEqual({
      [`127.0.0.1:${port}`]: 'refused',
    });
  });

  test('private, link-local and metadata addresses, which the host does reach', async () => {
    await using _net = await startClosedNet();
    const targets = closedAddresses.map((address) => `${address}:80`);
    for (const target of targets) expect(await reachFromHost(target)).toBe('open');
    expect(await reachFromGuest(perch, one.id, targets)).toEqual(all(targets, 'refused'));
  });
});

describe('the slot address of a guest', () => {
  /** @returns the exit code of a connection by bash as that user */
  async function connectAs(uid: number): Promise<number> {
    const line = `: </dev/tcp/${addressOf(one)}/${agentPort}`;
    const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
    const connection = run('setpriv', [...user, 'timeout', '5', 'bash', '-c', line]);
    return connection.then(
      () => 0,
      (error: { code: number }) => error.code,
    );
  }

  test('is closed to other users of the host at once, and open to root', async () => {
    expect(await connectAs(65534)).toBe(1);
    expect(await connectAs(0)).toBe(0);
  });

  test('answers nobody without the access token', async () => {
    const url = `http://${addressOf(one)}:${agentPort}`;
    expect((await fetch(`${url}/health`)).status).toBe(204);
    expect((await fetch(`${url}/files?path=/etc/hostname&username=user`)).status).toBe(401);
    expect((await fetch(`${url}/init`, { method: 'POST', body: '{}' })).status).toBe(401);
  });
});

describe('a guest that changes', () => {
  /**
   * Runs `change` as the guest's root, tries to get out and to its neighbour, and puts everything back.
   * @returns what was tried, and what came of it
   */
  async function whileChanged(change: string): Promise<Record<string, string>> {
    const script = `
mac=$(cat /sys/class/net/eth0/address)
${change}
{
  for url in http://${testHost}/ http://${addressOf(other)}:${guestPort}/; do
    curl -sS -o /dev/null --max-time 2 $url 2>/dev/null; echo "$url $?"
  done
} > /tmp/tried.new
ip addr flush dev eth0
ip link set eth0 down
ip link set eth0 address $mac
ip link set eth0 up
ip addr add 169.254.0.21/30 dev eth0
ip route add default via ${gateway} dev eth0
mv /tmp/tried.new /tmp/tried
`;
    await sh(perch, one.id, 'sudo rm -f /tmp/tried');
    await perch.sandboxes.files.write(one.id, '/tmp/change.sh', script);
    await sh(perch, one.id, 'sudo setsid bash /tmp/change.sh >/tmp/change.log 2>&1 </dev/null &');
    const neighbour = await sh(perch, other.id, `curl -sS --max-time 20 http://${testHost}/`);
    expect(neighbour).toBe('hello from the internet\n');
    let tried = '';
    await expect
      .poll(
        async () => {
          const cat = { cmd: 'cat', args: ['/tmp/tried'], timeout_sec: 5 };
          const result = await perch.sandboxes.exec(one.id, cat).catch(() => undefined);
          tried = result?.stdout ?? '';
          return result?.exit_code;
        },
        { timeout: 60_000 },
      )
      .toBe(0);
    return Object.fromEntries(
      tried
        .trim()
        .split('\n')
        .map((line) => line.split(' ') as [string, string]),
    );
  }

  /** Exit codes of curl: 7 could not connect, 28 time-out. */
  const nowhere = () => ({
    [`http://${testHost}/`]: expect.stringMatching(/^(7|28)$/),
    [`http://${addressOf(other)}:${guestPort}/`]: expect.stringMatching(/^(7|28)$/),
  });

  const changes: [string, () => string][] = [
    [
      'its address to one beside it',
      () =>
        `ip addr flush dev eth0; ip addr add 169.254.0.20/29 dev eth0; ip route add default via ${gateway}`,
    ],
    [
      "its address to its host's, in its neighbour's slot",
      () => `ip addr flush dev eth0; ip addr add ${hostSideOf(other)}/32 dev eth0
ip route add ${gateway} dev eth0; ip route add default via ${gateway} src ${hostSideOf(other)}`,
    ],
    [
      'its MAC address',
      () => `ip link set eth0 down; ip link set eth0 address 02:fc:00:00:00:99; ip link set eth0 up
ip route replace default via ${gateway} dev eth0`,
    ],
  ];

  test.each(changes)(
    '%s gets nowhere, disturbs nobody, and is back when it changes back',
    async (_, change) => {
      expect(await whileChanged(change())).toEqual(nowhere());
      expect(await sh(perch, one.id, `curl -sS --max-time 20 http://${testHost}/`)).toBe(
        'hello from the internet\n',
      );
    },
  );
});

/** A careless service of the host, until the test ends. @returns its port */
async function listenEverywhere(): Promise<number> {
  const server = createServer((socket) => socket.end());
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    await once(server, 'close');
  });
  return (server.address() as { port: number }).port;
}
