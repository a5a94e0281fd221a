import { expect, test } from 'vitest';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';

const perch = sharedPerch();

test('the base image has what its users count on', async () => {
  await using sandbox = await newSandbox(perch);
  const tools = 'python3 python pip git curl sudo bash ps ip tput unshare node npm';
  const script = [
    `for tool in ${tools}; do command -v "$tool" >/dev/null || echo "no $tool"; done`,
    'test -s /etc/ssl/certs/ca-certificates.crt || echo no certificates',
    // Making one takes half a minute under emulation, most of it for the pip that this brings.
    'python3 -c "import ensurepip" && python3 -m venv --without-pip /tmp/venv && test -x /tmp/venv/bin/python || echo no venv',
    'node --version | cut -d. -f1; . /etc/os-release; echo "$ID $VERSION_ID"; id -u; sudo -n id -u',
    'for file in .bashrc .profile; do test -f "$HOME/$file" || echo "no $file"; done',
    `python3 -c "import os; open('f', 'w'); os.setxattr('f', 'user.perch', b'kept'); print(os.getxattr('f', 'user.perch'))"`,
  ].join('\n');
  expect(await sh(perch, sandbox.id, script, 120)).toBe("v24\ndebian 12\n1000\n0\nb'kept'\n");
});

test('a sandbox is a machine of its own that runs Python, Node and git as an ordinary user', async () => {
  await using sandbox = await newSandbox(perch);
  expect(sandbox).toMatchObject({ status: 'running', template: 'base', vcpus: 1, memory_mb: 256 });
  expect(await sh(perch, sandbox.id, 'hostname; id -un; pwd')).toBe(`${sandbox.id}\nuser\n/home/user\n`);
  expect(await sh(perch, sandbox.id, 'python -c "print(6 * 7)"; node -e "console.log(6 * 7)"')).toBe(
    '42\n42\n',
  );
  expect(await sh(perch, sandbox.id, 'sudo id -u; git --version | cut -d" " -f1-2')).toBe('0\ngit version\n');
});
