/** Runs inside the namespace of the test internet. */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { testHost, testName, testResolver } from './test-internet.ts';

createServer((_request, answer) => answer.end('hello from the internet\n')).listen(80, testHost, () => {
  const dns = createSocket('udp4');
  dns.on('message', (query, from) => dns.send(answerTo(query), from.port, from.address));
  dns.bind(53, testResolver, () => console.log('ready'));
});

/** One A record for the one name, NXDOMAIN for all others (RFC 1035, section 4.1). */
function answerTo(query: Buffer): Buffer {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const question = query.subarray(12, at + 5);
  const type = query.readUInt16BE(at + 1);
  const known = labels.join('.').toLowerCase() === testName;
  const found = known && type === 1;
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(known ? 0x8180 : 0x8183, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(found ? 1 : 0, 6);
  header.writeUInt32BE(0, 8);
  if (!found) return Buffer.concat([header, question]);
  const address = Buffer.from(testHost.split('.').map(Number));
  // A pointer to the name in the question, type A, class IN, 60 s, 4 bytes.
  const record = Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
  return Buffer.concat([header, question, record, address]);
}
