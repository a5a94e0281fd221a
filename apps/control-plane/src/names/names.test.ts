import { Resolver } from 'node:dns/promises';
import { fc, test as property } from '@fast-check/vitest';
import { decode, encode } from 'dns-packet';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { answer } from './answer.ts';
import { NameServer } from './server.ts';

const zone = { domain: 'perch.test', addresses: ['127.0.0.1', '::1'] };
let server: NameServer;
const resolverAt = (port: number, timeout = 30_000) => {
  const made = new Resolver({ timeout, tries: 1 });
  made.setServers([`127.0.0.1:${port}`]);
  return made;
};
let resolver: Resolver;
beforeAll(async () => {
  server = await NameServer.start({ host: '127.0.0.1', port: 0 }, () => zone, pino({ level: 'silent' }));
  resolver = resolverAt(server.port);
});
afterAll(() => server[Symbol.asyncDispose]());

test('the domain and the names below it are this machine', async () => {
  for (const name of ['perch.test', 'api.perch.test', '3000-sb0123456789abcdefgh.Perch.TEST']) {
    expect(await resolver.resolve4(name)).toEqual(['127.0.0.1']);
    expect(await resolver.resolve6(name)).toEqual(['::1']);
  }
});

test('a name of ours has addresses and nothing else', async () => {
  await expect(resolver.resolveMx('api.perch.test')).rejects.toMatchObject({ code: 'ENODATA' });
});

test('everything else is refused', async () => {
  for (const name of ['example.com', 'xperch.test', 'perch.test.example.com', 'test']) {
    await expect(resolver.resolve4(name)).rejects.toMatchObject({ code: 'EREFUSED' });
  }
});

test('a question that cannot be answered ends nothing', async () => {
  let fails = true;
  const whileItFails = () => {
    if (fails) throw new Error('no zone');
    return zone;
  };
  await using another = await NameServer.start(
    { host: '127.0.0.1', port: 0 },
    whileItFails,
    pino({ level: 'silent' }),
  );
  await expect(resolverAt(another.port, 100).resolve4('perch.test')).rejects.toMatchObject({
    code: 'ETIMEOUT',
  });
  fails = false;
  expect(await resolverAt(another.port).resolve4('perch.test')).toEqual(['127.0.0.1']);
});

const flagsOf = (datagram: Buffer | undefined) => datagram && datagram.readUInt16BE(2) & 0xf;

test('a question is told from what is none', () => {
  const question = { type: 'A', name: 'a.perch.test' } as const;
  expect(answer(encode({ type: 'response', questions: [question] }), zone)).toBeUndefined();
  expect(answer(Buffer.alloc(0), zone)).toBeUndefined();
  expect(answer(Buffer.alloc(2000), zone)).toBeUndefined();
  expect(flagsOf(answer(encode({ type: 'query', id: 7, questions: [] }), zone))).toBe(1);
  expect(flagsOf(answer(encode({ type: 'query', questions: [question, question] }), zone))).toBe(1);
  const update = encode({ type: 'query', id: 7, questions: [question] });
  update[2] = 5 << 3;
  expect(flagsOf(answer(update, zone))).toBe(4);
  const other = encode({ type: 'query', questions: [{ ...question, class: 'CH' }] });
  expect(flagsOf(answer(other, zone))).toBe(5);
});

property.prop([fc.uint8Array({ maxLength: 600 })])(
  'bytes of anybody end in an answer or in none',
  (bytes) => {
    const said = answer(Buffer.from(bytes), zone);
    if (said) expect(decode(said).type).toBe('response');
  },
);
