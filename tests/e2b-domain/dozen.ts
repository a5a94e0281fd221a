/** A dozen sandboxes at once, each with a command, files and a server of its own, by E2B's JavaScript SDK. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { text } from 'node:stream/consumers';
import { Sandbox } from 'e2b';

const [template = 'base'] = process.argv.slice(2);
/** Twelve guests under emulation take what others leave them: whoever runs this program has the patience. */
const patient = { requestTimeoutMs: 0 };
/** Of Perl, which starts quickly under emulation. */
const server = `
$| = 1;
my $id = $ENV{E2B_SANDBOX_ID};
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die;
print "listens\\n";
while (my $client = $listener->accept) {
  sysread($client, my $asked, 65536);
  print $client "HTTP/1.0 200 OK\\r\\nContent-Length: " . length($id) . "\\r\\n\\r\\n$id";
  close $client;
}
`;

const made = await Promise.allSettled(
  Array.from({ length: 12 }, () =>
    Sandbox.create(template, { ...patient, timeoutMs: 1_800_000, metadata: { by: 'dozen' } }),
  ),
);
const boxes = made.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
try {
  assert.deepEqual(
    made.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : [])),
    [],
  );
  await Promise.all(boxes.map(use));
  assert.equal(await count(), 12);
} finally {
  await Promise.all(boxes.map((box) => box.kill()));
}
assert.equal(await count(), 0);
console.log('done');

async function count(): Promise<number> {
  const pages = Sandbox.list({ ...patient, query: { metadata: { by: 'dozen' } } });
  return (await pages.nextItems()).length;
}

/** By no client that has limits of its own. */
async function page(url: string): Promise<string> {
  const [answer] = (await once(get(url), 'response')) as [IncomingMessage];
  return text(answer);
}

async function use(box: Sandbox): Promise<void> {
  const listens = Promise.withResolvers<void>();
  await box.files.write('server.pl', server);
  await box.commands.run('exec perl -MIO::Socket::INET server.pl', {
    ...{ background: true, timeoutMs: 0 },
    onStdout: () => listens.resolve(),
  });
  const data = box.sandboxId.repeat(1000);
  await box.files.write('a/name', data);
  assert.equal(
    (await box.commands.run('hostname; wc -c < a/name', { timeoutMs: 0 })).stdout,
    `${box.sandboxId}\n${data.length}\n`,
  );
  assert.equal(await box.files.read('a/name'), data);
  await listens.promise;
  for (let turn = 0; turn < 3; turn++) {
    assert.equal(await page(`https://${box.getHost(8080)}/`), box.sandboxId);
  }
}
