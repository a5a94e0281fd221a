import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

/** Settings; and a head of stream 1 with a name in capitals, which no head of HTTP/2 may have. */
const malformed = Buffer.from(
  '000000040000000000' + '000012010500000001' + '00073a737461747573' + '03323030' + '0001580161',
  'hex',
);
/** The head of the first call, by its type, flags and stream. */
const call = /\x01[\x04\x05\x24\x25]\0{3}\x01/;

/** Makes calls of such a program, and collects garbage while Node still has what came of them. */
const calls = `
import { IncomingMessage, ServerResponse } from 'node:http';
import { connect, Socket } from 'node:net';
import { Readable } from 'node:stream';
const [module, port] = process.argv.slice(1);
const { forwardGrpc } = await import(module);
const upstream = { connect: () => connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true }) };
const ask = () =>
  forwardGrpc(
    new Readable({ read() {} }),
    new ServerResponse(new IncomingMessage(new Socket())),
    { upstream, port, url: '/', headers: ['content-type', 'application/grpc'] },
  );
for (let turn = 0; turn < 20; turn++) {
  const failures = await Promise.all(Array.from({ length: 16 }, ask));
  if (failures.some((failure) => failure !== 'broken')) throw new Error(String(failures));
  gc();
}
console.log('lives');
process.exit();
`;

test('a program whose answers are none ends no process, whenever garbage is collected', async () => {
  await using program = createServer((socket) => {
    let come = '';
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        const had = call.test(come);
        come += chunk.toString('latin1');
        if (!had && call.test(come)) socket.write(malformed);
      });
  }).listen(0, '127.0.0.1');
  await once(program, 'listening');
  const { port } = program.address() as AddressInfo;
  const args = ['--expose-gc', '--input-type=module', '--eval', calls];
  const told = await promisify(execFile)(process.execPath, [
    ...args,
    ...[new URL('grpc.ts', import.meta.url).href, String(port)],
  ]);
  expect(told.stdout).toBe('lives\n');
});
