/** The guest of the base image as an ordinary user, and root, find it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from './setup/eventually.ts';
import { newSandbox, sh, sharedPerch, type TestSandbox } from './setup/sandbox.ts';
import { testHost } from './setup/test-internet.ts';

const perch = sharedPerch();
let sandbox: TestSandbox;
const guest = (line: string) => sh(perch, sandbox.id, line, 300);
const root = (line: string) => guest(`sudo sh -c '${line}'`);

beforeAll(async () => {
  sandbox = await newSandbox(perch);
});
afterAll(() => sandbox?.[Symbol.asyncDispose]());

describe('IPv6', () => {
  test('is there on the loopback, by address and by name, and nowhere else', async () => {
    expect(await guest('ip -6 -br addr')).toMatch(/^lo +UNKNOWN +::1\/128\s*$/);
    const server = `
import socket, threading
for address in ("::1", "::"):
    server = socket.create_server((address, 0), family=socket.AF_INET6, dualstack_ipv6=address == "::")
    port = server.getsockname()[1]
    for name in ("::1", "localhost") + (("127.0.0.1",) if address == "::" else ()):
        client = socket.create_connection((name, port), 5)
        server.accept()[0].sendall(b"!")
        assert client.recv(1) == b"!"
print("served")`;
    expect(await guest(`python3 -c '${server}'`)).toBe('served\n');
  });

  test('is there on interfaces that root adds', async () => {
    const added =
      'ip link add pair type veth peer name other && ip addr add fd00::1/64 dev pair && ip -6 -br addr show dev pair && ip link del pair';
    expect(await root(added)).toContain('fd00::1/64');
  });

  test('of a name that has it does not keep anybody from going by IPv4', async () => {
    const page = `curl -sS --max-time 20 --resolve both.test:80:[2001:db8::7],${testHost} http://both.test/`;
    expect(await guest(page)).toBe('hello from the internet\n');
  });
});

describe('a command', () => {
  test('has a locale, a shell and the programs of its user', async () => {
    const variables = (user: string) =>
      perch.sandboxes
        .exec(sandbox.id, { cmd: 'sh', args: ['-c', 'echo $LANG $SHELL $(echo $PATH | cut -d: -f1)'], user })
        .then(({ stdout }) => stdout);
    expect(await variables('user')).toBe('C.UTF-8 /bin/bash /home/user/.local/bin\n');
    expect(await variables('root')).toBe('C.UTF-8 /bin/bash /root/.local/bin\n');
    expect(await guest('locale charmap; python3 -c \'print("ü")\'')).toBe('UTF-8\nü\n');
  });

  // npm is ten thousand lines of JavaScript to an emulated processor.
  test('of npm installs programs for its user, and under sudo for all', { timeout: 600_000 }, async () => {
    const json = '{"name":"tool","version":"1.0.0","bin":{"hello-npm":"hello.js"}}';
    await guest(`mkdir ~/tool && cd ~/tool && echo '${json}' > package.json
printf '#!/usr/bin/env node\\nconsole.log("hello")\\n' > hello.js
npm install --global --offline --no-audit --no-fund --no-update-notifier ~/tool`);
    expect(await guest('command -v hello-npm; hello-npm')).toBe('/home/user/.local/bin/hello-npm\nhello\n');
    expect(await guest('sudo npm prefix --global --no-update-notifier')).toBe('/usr/local\n');
  });
});

test('the tools that people expect are there', async () => {
  await guest(
    "printf 'int main(void){return 7;}' > /tmp/seven.c && printf 'seven: seven.c\\n\\tgcc -o $@ $<\\n' > /tmp/Makefile",
  );
  expect(await guest('make -sC /tmp; /tmp/seven; echo $?')).toBe('7\n');
  expect(await guest('vim -es -u NONE -c "call setline(1, \\"edited\\")" -c "wq! /tmp/v"; cat /tmp/v')).toBe(
    'edited\n',
  );
  expect(await guest(`wget -qO- http://${testHost}/`)).toBe('hello from the internet\n');
  expect(await guest(`echo '{"a":[1,2]}' | jq -c .a`)).toBe('[1,2]\n');
  expect(await guest("sqlite3 :memory: 'select 6*7'")).toBe('42\n');
  expect(
    await guest('cd /tmp && setfattr -n user.a -v b seven.c && getfattr -n user.a --only-values seven.c'),
  ).toBe('b');
  expect(await guest('cd /tmp && python3 -m zipfile -c a.zip seven.c && unzip -p a.zip')).toContain('main');
});

test('the default user can ping, near and far', async () => {
  for (const host of ['127.0.0.1', '::1', testHost]) {
    expect(await guest(`ping -c 1 -W 10 ${host}`)).toContain('1 received');
  }
});

describe('root loads on demand', () => {
  test('the modules of this kernel, by name', async () => {
    const names =
      'overlay bridge br_netfilter veth loop nf_tables nft_chain_nat iptable_nat xt_MASQUERADE tun fuse';
    await root(`modprobe -a ${names}`);
    const loaded = (await guest("cut -d' ' -f1 /proc/modules")).split('\n');
    expect(loaded).toEqual(expect.arrayContaining(names.split(' ')));
  });

  test('file systems and block devices, by using them', async () => {
    const line = `cd /tmp; mkdir -p l u w m d; echo low > l/f
sudo mount -t tmpfs tmpfs w; mkdir -p w/u w/w; sudo mount -t overlay overlay -o lowerdir=l,upperdir=w/u,workdir=w/w m; echo up >> m/f; cat m/f l/f
truncate -s 16M disk; /sbin/mke2fs -q disk; sudo mount -o loop disk d; findmnt -no FSTYPE d; sudo umount d m w`;
    expect(await guest(line)).toBe('low\nup\nlow\next2\n');
    expect(await guest('stat -c "%A %n" /dev/fuse /dev/net/tun; : <> /dev/fuse; : <> /dev/net/tun')).toBe(
      'crw-rw-rw- /dev/fuse\ncrw-rw-rw- /dev/net/tun\n',
    );
  });
});

describe('a network of the guest behind its own', () => {
  const inside = 'sudo ip netns exec box';

  beforeAll(async () => {
    await root(`set -e; ip netns add box
ip link add br0 type bridge; ip addr add 10.200.0.1/24 dev br0; ip link set br0 up
ip link add box0 type veth peer name eth0 netns box; ip link set box0 master br0 up
ip -n box addr add 10.200.0.2/24 dev eth0; ip -n box link set lo up; ip -n box link set eth0 up
ip -n box route add default via 10.200.0.1
echo 1 > /proc/sys/net/ipv4/ip_forward
iptables -t nat -A POSTROUTING -s 10.200.0.0/24 ! -o br0 -j MASQUERADE
iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 8080 -j DNAT --to-destination 10.200.0.2:80`);
  });

  test('gets out by address translation, and has ::1 of its own', async () => {
    expect(await guest(`${inside} curl -sS --max-time 20 http://${testHost}/`)).toBe(
      'hello from the internet\n',
    );
    expect(await guest(`${inside} ping -c 1 -W 10 ::1`)).toContain('1 received');
  });

  test('loses at a fork the connections that lead out, and keeps those within the guest', async () => {
    const program = `
import socket, sys, threading
def state(peer):
    peer.settimeout(60)
    try:
        return "answer" if peer.recv(1) else "closed"
    except ConnectionAbortedError:
        return "aborted"
    except TimeoutError:
        return "silent"
out = socket.create_connection(("${testHost}", 80), 20)
near = socket.create_connection(("10.200.0.1", 7000), 20)
print("connected", flush=True)
near.sendall(b"!")
near.settimeout(600)
near.recv(1)
print(state(out), flush=True)`;
    const echo = `
import socket
server = socket.create_server(("10.200.0.1", 7000))
peer, _ = server.accept()
peer.recv(1)
server.accept()
peer.sendall(b"!")
peer.recv(1)`;
    await perch.sandboxes.files.write(sandbox.id, '/tmp/out.py', program);
    await perch.sandboxes.files.write(sandbox.id, '/tmp/echo.py', echo);
    await guest('setsid python3 /tmp/echo.py >/tmp/echo.log 2>&1 </dev/null &');
    await eventually(async () => (await guest('ss -Hltn "sport = 7000"')) !== '');
    await guest(`setsid ${inside} python3 /tmp/out.py >/tmp/out.log 2>&1 </dev/null &`);
    await eventually(async () => (await guest('cat /tmp/out.log')) === 'connected\n');
    const [fork] = (await perch.sandboxes.fork(sandbox.id)).results;
    if (!fork || !('sandbox' in fork)) throw new Error(`no fork: ${JSON.stringify(fork)}`);
    const child = fork.sandbox;
    try {
      // Lets the server of the child answer on the connection that is within the guest.
      await sh(perch, child.id, ': > /dev/tcp/10.200.0.1/7000');
      await eventually(async () => (await sh(perch, child.id, 'wc -l < /tmp/out.log')) === '2\n');
      expect(await sh(perch, child.id, 'cat /tmp/out.log')).toBe('connected\naborted\n');
    } finally {
      await perch.sandboxes.delete(child.id);
    }
  });
});
