import { fc, test as property } from '@fast-check/vitest';
import { expect, test } from 'vitest';
import { isReachable, parseListening } from './listening.ts';

const line = (local: string, state: string) =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0000 100 0 0 10 0`;

test('ports and addresses of those that listen are read, and connections are not', () => {
  const text = [
    '  sl  local_address rem_address   st tx_queue',
    line('0100007F:0050', '0A'),
    line('00000000:1F90', '0A'),
    line('0B00000A:1F90', '01'),
    line('00000000000000000000000000000000:0016', '0A'),
    line('00000000000000000000000001000000:0BB8', '0A'),
    line('0000000000000000FFFF00000100007F:0BB9', '0A'),
    line('B80D0120000000000000000001000000:0BBA', '0A'),
  ].join('\n');
  expect(parseListening(text)).toEqual([
    { port: 80, address: '127.0.0.1' },
    { port: 8080, address: '0.0.0.0' },
    { port: 22, address: '::' },
    { port: 3000, address: '::1' },
    { port: 3001, address: '::ffff:7f00:1' },
    { port: 3002, address: '2001:db8::1' },
  ]);
});

test('what listens on the loopback alone is not reached', () => {
  for (const address of ['127.0.0.1', '127.9.0.1', '::1', '::ffff:7f00:1'])
    expect(isReachable(address)).toBe(false);
  for (const address of ['0.0.0.0', '::', '10.0.0.2', '2001:db8::1']) expect(isReachable(address)).toBe(true);
});

property.prop([fc.string()])('any text has ports or none', (text) => {
  for (const { port } of parseListening(`${text}\n${line('00000000:1F90', '0A')}`)) {
    expect(port).toBeGreaterThan(0);
    expect(port).toBeLessThan(65_536);
  }
});
