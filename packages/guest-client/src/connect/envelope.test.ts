import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { type Envelope, EnvelopeDecoder, EnvelopeError, encodeEnvelope } from './envelope.ts';

const end = Buffer.from([2, 0, 0, 0, 2, 0x7b, 0x7d]);

function decode(chunks: Buffer[], limit = 1000): Envelope[] {
  const decoder = new EnvelopeDecoder(limit);
  const envelopes = chunks.flatMap((chunk) => [...decoder.push(chunk)]);
  decoder.finish();
  return envelopes;
}

function cut(bytes: Buffer, at: number[]): Buffer[] {
  const points = [0, ...at.map((n) => n % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return points.slice(1).map((point, i) => bytes.subarray(points[i], point));
}

test.prop([
  fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }),
  fc.array(fc.nat(), { maxLength: 30 }),
])('any chunking gives the same messages', (messages, cuts) => {
  const stream = Buffer.concat([...messages.map((message) => encodeEnvelope(Buffer.from(message))), end]);
  const envelopes = decode(cut(stream, cuts));
  expect(envelopes.map(({ payload }) => payload.toString('hex'))).toEqual([
    ...messages.map((message) => Buffer.from(message).toString('hex')),
    '7b7d',
  ]);
  expect(envelopes.map((envelope) => envelope.end)).toEqual([...messages.map(() => false), true]);
});

test.prop([fc.array(fc.uint8Array({ maxLength: 40 }))])(
  'no bytes do anything but decode or be refused',
  (chunks) => {
    try {
      decode(chunks.map((chunk) => Buffer.from(chunk)));
    } catch (error) {
      expect(error).toBeInstanceOf(EnvelopeError);
    }
  },
);

test.prop([fc.nat({ max: 6 })])('a stream without its end is refused wherever it stops', (length) => {
  expect(() => decode([encodeEnvelope(Buffer.from('{}')), end.subarray(0, length)])).toThrow('no end');
});

test('an envelope over the limit is refused before its payload comes', () => {
  expect(() => decode([Buffer.from([0, 0xff, 0xff, 0xff, 0xff])])).toThrow('longer than 1000 bytes');
  expect(decode([Buffer.concat([encodeEnvelope(Buffer.alloc(1000)), end])])).toHaveLength(2);
  expect(() => decode([encodeEnvelope(Buffer.alloc(1001))])).toThrow('longer than 1000 bytes');
});

test('output comes with the stream that it is of', () => {
  const [stdout, stderr, terminal, message] = [0x10, 0x20, 0x30, 0].map((flags) => {
    const envelope = encodeEnvelope(Buffer.from('hi'));
    envelope[0] = flags;
    return envelope;
  }) as [Buffer, Buffer, Buffer, Buffer];
  const outputs = decode([stdout, stderr, terminal, message, end]).map(({ output }) => output);
  expect(outputs).toEqual(['stdout', 'stderr', 'stdout', undefined, undefined]);
});

test('flags that mean compression or nothing are refused', () => {
  for (const flags of [1, 3, 4, 0x12, 0x32, 255])
    expect(() => decode([Buffer.from([flags])])).toThrow(`flags ${flags}`);
});

test('nothing may follow the end', () => {
  expect(() => decode([Buffer.concat([end, Buffer.from([0])])])).toThrow('after its end');
  expect(() => decode([end, encodeEnvelope(Buffer.from('{}'))])).toThrow('after its end');
  expect(decode([end, Buffer.alloc(0)])).toHaveLength(1);
});
