/** A program written with E2B's JavaScript SDK: nothing in it names Perch, its address or its certificate. */
import assert from 'node:assert/strict';
import { CommandExitError, FilesystemEventType, Sandbox, SandboxNotFoundError, TimeoutError } from 'e2b';

const page = `
import socket
listener = socket.create_server(('', 8080))
print('listens')
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\na page')
    client.close()
`;

const box = await Sandbox.create({
  metadata: { by: 'domain' },
  envs: { COLOUR: 'green' },
  timeoutMs: 900_000,
});
try {
  assert.equal(await box.isRunning(), true);
  const listed = await Sandbox.list({ query: { metadata: { by: 'domain' } } }).nextItems();
  assert.deepEqual(
    listed.map(({ sandboxId }) => sandboxId),
    [box.sandboxId],
  );
  await commands();
  await files();
  await terminal();
  await ports();
} finally {
  const waiting = box.commands.run('sleep 600').catch((error: unknown) => error);
  while (!(await box.commands.list()).some(({ args }) => args.join(' ').includes('sleep 600')));
  assert.equal(await box.kill(), true);
  assert.ok((await waiting) instanceof TimeoutError, String(await waiting));
}
assert.equal(await box.kill(), false);
assert.equal(await box.isRunning(), false);
await assert.rejects(box.commands.run('true'), SandboxNotFoundError);
console.log('done');

async function commands(): Promise<void> {
  const ran = await box.commands.run('echo "$COLOUR"; hostname; echo oops >&2');
  assert.deepEqual([ran.stdout, ran.stderr], [`green\n${box.sandboxId}\n`, 'oops\n']);
  await assert.rejects(box.commands.run('exit 3'), CommandExitError);
  const said: string[] = [];
  const cat = await box.commands.run('cat', {
    background: true,
    stdin: true,
    onStdout: (text) => void said.push(text),
  });
  await box.commands.sendStdin(cat.pid, 'hello\n');
  await box.commands.closeStdin(cat.pid);
  assert.equal((await cat.wait()).exitCode, 0);
  assert.equal(said.join(''), 'hello\n');
  // Many at once are streams of few connections.
  const all = await Promise.all(Array.from({ length: 12 }, (_, i) => box.commands.run(`echo ${i}`)));
  assert.deepEqual(
    all.map(({ stdout }) => stdout),
    Array.from({ length: 12 }, (_, i) => `${i}\n`),
  );
}

async function files(): Promise<void> {
  const bytes = crypto.getRandomValues(new Uint8Array(65_536));
  await box.files.write('a b', new Blob([bytes]));
  assert.deepEqual(new Uint8Array(await box.files.read('a b', { format: 'bytes' })), bytes);
  await box.files.makeDir('watched');
  const seen: string[] = [];
  const written = Promise.withResolvers<void>();
  const watch = await box.files.watchDir('watched', ({ name, type }) => {
    seen.push(`${type} ${name}`);
    if (type === FilesystemEventType.WRITE) written.resolve();
  });
  await box.files.write('watched/new', 'text');
  await written.promise;
  await watch.stop();
  assert.equal(seen[0], 'create new');
  const link = await box.downloadUrl('watched/new', { useSignatureExpiration: 60 });
  assert.ok(link.startsWith(`https://49983-${box.sandboxId}.`), link);
  assert.equal(await (await fetch(link)).text(), 'text');
}

async function terminal(): Promise<void> {
  let screen = '';
  const decoder = new TextDecoder();
  const pty = await box.pty.create({
    ...{ cols: 80, rows: 24, timeoutMs: 0 },
    onData: (data) => {
      screen += decoder.decode(data, { stream: true });
    },
  });
  await box.pty.sendInput(pty.pid, new TextEncoder().encode('stty size; exit\n'));
  assert.equal((await pty.wait()).exitCode, 0);
  assert.match(screen, /24 80/);
}

async function ports(): Promise<void> {
  const listens = Promise.withResolvers<void>();
  const server = await box.commands.run(`python3 -uc "${page}"`, {
    background: true,
    timeoutMs: 0,
    onStdout: () => listens.resolve(),
  });
  await listens.promise;
  const answer = await fetch(`https://${box.getHost(8080)}/`);
  assert.deepEqual([answer.status, await answer.text()], [200, 'a page']);
  assert.equal((await fetch(`https://${box.getHost(8081)}/`)).status, 502);
  await server.kill();
}
