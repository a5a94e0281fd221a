import { fc, test as property } from '@fast-check/vitest';
import { describe, expect, test } from 'vitest';
import { guest, names, numberIn, slotSpace } from './slots.ts';

const space = slotSpace('a1', '10.11.0.0/16');

describe('a slot', () => {
  test('is everything that follows from its number', () => {
    expect(space.plan(1)).toEqual({
      number: 1,
      namespace: 'perch-a1-1',
      tap: 'tap0',
      mac: '02:fc:00:00:00:05',
      address: '10.11.0.3',
      uid: 0x4a0b0003,
      veth: 'pcha1-1',
      hostAddress: '10.11.0.2',
      hostMac: '02:fc:01:00:00:01',
      uplinkMac: '02:fc:02:00:00:01',
    });
  });

  test.each([
    [127, '10.11.0.254', '10.11.0.255', '02:fc:01:00:00:7f'],
    [128, '10.11.1.0', '10.11.1.1', '02:fc:01:00:00:80'],
    [255, '10.11.1.254', '10.11.1.255', '02:fc:01:00:00:ff'],
    [256, '10.11.2.0', '10.11.2.1', '02:fc:01:00:01:00'],
    [16383, '10.11.127.254', '10.11.127.255', '02:fc:01:00:3f:ff'],
    [16384, '10.11.128.0', '10.11.128.1', '02:fc:01:00:40:00'],
    [32767, '10.11.255.254', '10.11.255.255', '02:fc:01:00:7f:ff'],
  ])('%i crosses byte boundaries without wrapping', (number, hostAddress, address, hostMac) => {
    expect(space.plan(number)).toMatchObject({ hostAddress, address, hostMac });
  });

  test.each([0, -1, 1.5, 32768, 65536, Number.NaN])('number %s does not exist', (number) => {
    expect(() => space.plan(number)).toThrow(RangeError);
  });

  property.prop([fc.integer({ min: 1, max: 32767 })])('is found by its user', (number) => {
    const { uid } = space.plan(number);
    expect(space.ofUid(uid)).toBe(number);
    expect(space.ofUid(uid + 1)).toBeUndefined();
  });

  test('is not found by the user of another range', () => {
    const { uid } = slotSpace('a1', '10.12.0.0/16').plan(1);
    for (const other of [0, 1000, uid, space.plan(1).uid - 2, space.plan(32767).uid + 2])
      expect(space.ofUid(other)).toBeUndefined();
  });

  property.prop([fc.integer({ min: 1, max: 32767 }), fc.integer({ min: 1, max: 32767 })])(
    'shares no address, name or user with another',
    (a, b) => {
      fc.pre(a !== b);
      const one = space.plan(a);
      const two = space.plan(b);
      for (const key of ['address', 'hostAddress', 'namespace', 'veth', 'uid', 'hostMac'] as const) {
        expect(one[key]).not.toBe(two[key]);
      }
      expect(one.address).not.toBe(two.hostAddress);
    },
  );

  test('has names that Linux takes, with the longest instance and number', () => {
    const plan = slotSpace('abcdef', '10.11.0.0/16').plan(32767);
    expect(plan.veth).toBe('pchabcdef-32767');
    expect(plan.veth.length).toBeLessThanOrEqual(15);
    expect(guest.tap.length).toBeLessThanOrEqual(15);
  });

  test('has a user of its own also among the other private ranges', () => {
    const ranges = ['10.0.0.0/16', '172.16.0.0/16', '192.168.0.0/16', '100.64.0.0/16', '198.18.0.0/16'];
    const uids = ranges.flatMap((cidr) => [1, 32767].map((n) => slotSpace('a', cidr).plan(n).uid));
    expect(new Set(uids).size).toBe(10);
    for (const uid of uids) expect(uid >= 0x40000000 && uid < 0x80000000).toBe(true);
  });
});

describe('a network', () => {
  test.each([
    ['10.11.0.0/16', 32767],
    ['172.31.0.0/16', 32767],
    ['10.11.128.0/17', 16383],
    ['192.168.4.0/24', 127],
    ['192.168.4.128/25', 63],
    ['192.168.4.16/28', 7],
  ])('%s has %i slots', (cidr, total) => {
    const { plan, ...rest } = slotSpace('a', cidr);
    expect(rest.total).toBe(total);
    expect(plan(total).number).toBe(total);
    expect(() => plan(total + 1)).toThrow(RangeError);
  });

  test.each(['192.168.4.16/28', '192.168.4.240/28'])('of the smallest size (%s) stays inside it', (cidr) => {
    const base = Number(cidr.split(/[./]/)[3]);
    expect(slotSpace('a', cidr).plan(7).address).toBe(`192.168.4.${base + 15}`);
  });

  test.each([
    '',
    '10.11.0.0',
    '10.11.0.0/',
    '10.11.0.0/15',
    '10.11.0.0/8',
    '10.11.0.0/29',
    '10.11.0.0/016',
    '10.11.0.0/16/16',
    '10.11.0.0/-16',
    '10.11.0.0/1e1',
    '10.11.0/16',
    '10.11.0.0.0/16',
    '10.11.0.256/16',
    '010.11.0.0/16',
    '10.011.0.0/16',
    '0x0a.11.0.0/16',
    ' 10.11.0.0/16',
    '10.11.0.0/16 ',
    '10.11.0.1/16',
    '10.11.1.0/16',
    '192.168.4.8/28',
    'fd00::/16',
    '8.8.0.0/16',
    '127.0.0.0/16',
    '169.254.0.0/16',
    '224.0.0.0/16',
    '0.0.0.0/16',
    '172.32.0.0/16',
  ])('%j is refused, with a line that helps', (cidr) => {
    expect(() => slotSpace('a', cidr)).toThrow(/PERCH_NETWORK=10\.11\.0\.0\/16/);
  });
});

describe('an instance', () => {
  test.each(['', 'toolong', 'A', 'a-b', 'a*', 'ä', 'a b', '../a'])('%j is refused', (instance) => {
    expect(() => slotSpace(instance, '10.11.0.0/16')).toThrow(/instance/);
  });

  test('has names that no other instance takes for its own', () => {
    expect(slotSpace('a12', '10.11.0.0/16').plan(3).veth.startsWith(names('a1').vethPrefix)).toBe(false);
    expect(numberIn('pcha12-3', 'pcha1-')).toBeUndefined();
    expect(numberIn('perch-a1-3', 'perch-a1-')).toBe(3);
    expect(numberIn('perch-a1-03', 'perch-a1-')).toBeUndefined();
    expect(numberIn('perch-a1-3-x', 'perch-a1-')).toBeUndefined();
  });
});
