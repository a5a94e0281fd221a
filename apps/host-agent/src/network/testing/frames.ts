/** Ethernet frames as a guest may send them, honest or not, and what is in those that it gets. */

import { guest } from '../slots.ts';

export const etherType = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;
export const protocol = { icmp: 1, tcp: 6, udp: 17 } as const;
export const tcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

const bytesOfMac = (mac: string) => Buffer.from(mac.replaceAll(':', ''), 'hex');
const bytesOfAddress = (address: string) => Buffer.from(address.split('.').map(Number));
const macOf = (bytes: Buffer) => bytes.toString('hex').replace(/..(?!$)/g, '$&:');
const addressOf = (bytes: Buffer) => [...bytes].join('.');

/** RFC 1071 */
function checksum(...parts: Buffer[]): number {
  const all = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) sum += (all[i] ?? 0) * 256 + (all[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

export interface LinkFields {
  from?: string;
  to?: string;
}

/** Unless told otherwise, from the guest to its gateway. */
export function ethernet(type: number, payload: Buffer, link: LinkFields = {}): Buffer {
  const header = Buffer.alloc(14);
  bytesOfMac(link.to ?? guest.gatewayMac).copy(header, 0);
  bytesOfMac(link.from ?? guest.mac).copy(header, 6);
  header.writeUInt16BE(type, 12);
  return Buffer.concat([header, payload]);
}

export function vlan(id: number, type: number, payload: Buffer): Buffer {
  const tag = Buffer.alloc(4);
  tag.writeUInt16BE(id, 0);
  tag.writeUInt16BE(type, 2);
  return ethernet(etherType.vlan, Buffer.concat([tag, payload]));
}

export function arp(fields: {
  operation?: 'request' | 'reply';
  senderMac?: string;
  sender?: string;
  target: string;
  link?: LinkFields;
}): Buffer {
  const body = Buffer.alloc(28);
  body.writeUInt16BE(1, 0);
  body.writeUInt16BE(etherType.ipv4, 2);
  body.set([6, 4], 4);
  body.writeUInt16BE(fields.operation === 'reply' ? 2 : 1, 6);
  bytesOfMac(fields.senderMac ?? guest.mac).copy(body, 8);
  bytesOfAddress(fields.sender ?? guest.address).copy(body, 14);
  bytesOfAddress(fields.target).copy(body, 24);
  return ethernet(etherType.arp, body, { to: 'ff:ff:ff:ff:ff:ff', ...fields.link });
}

export function ipv4(from: string, to: string, proto: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header[8] = 64;
  header[9] = proto;
  bytesOfAddress(from).copy(header, 12);
  bytesOfAddress(to).copy(header, 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

function pseudoHeader(from: string, to: string, proto: number, length: number): Buffer {
  const tail = Buffer.from([0, proto, length >> 8, length & 255]);
  return Buffer.concat([bytesOfAddress(from), bytesOfAddress(to), tail]);
}

export interface Flow {
  from?: string;
  to: string;
  fromPort?: number;
  toPort: number;
}

export interface TcpFields extends Flow {
  flags: number;
  seq?: number;
  ack?: number;
  data?: string;
}

/** An IPv4 packet; without `from` it is the guest's. */
export function tcp(fields: TcpFields): Buffer {
  const from = fields.from ?? guest.address;
  const segment = Buffer.concat([Buffer.alloc(20), Buffer.from(fields.data ?? '')]);
  segment.writeUInt16BE(fields.fromPort ?? 40000, 0);
  segment.writeUInt16BE(fields.toPort, 2);
  segment.writeUInt32BE(fields.seq ?? 1000, 4);
  segment.writeUInt32BE(fields.ack ?? 0, 8);
  segment.writeUInt16BE(0x5000 | fields.flags, 12);
  segment.writeUInt16BE(65535, 14);
  segment.writeUInt16BE(checksum(pseudoHeader(from, fields.to, protocol.tcp, segment.length), segment), 16);
  return ipv4(from, fields.to, protocol.tcp, segment);
}

export function udp(fields: Flow & { data: Buffer }): Buffer {
  const from = fields.from ?? guest.address;
  const datagram = Buffer.concat([Buffer.alloc(8), fields.data]);
  datagram.writeUInt16BE(fields.fromPort ?? 40000, 0);
  datagram.writeUInt16BE(fields.toPort, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  datagram.writeUInt16BE(checksum(pseudoHeader(from, fields.to, protocol.udp, datagram.length), datagram), 6);
  return ipv4(from, fields.to, protocol.udp, datagram);
}

export function echoRequest(to: string, id = 1): Buffer {
  const body = Buffer.from([8, 0, 0, 0, id >> 8, id & 255, 0, 1]);
  body.writeUInt16BE(checksum(body), 2);
  return ipv4(guest.address, to, protocol.icmp, body);
}

export interface Packet {
  link: { from: string; to: string };
  type: number;
  /** ARP: the sender. */
  from?: string;
  fromMac?: string;
  to?: string;
  proto?: number;
  fromPort?: number;
  toPort?: number;
  flags?: number;
  seq?: number;
  data?: Buffer;
  /** ICMP echo, request or reply. */
  echoId?: number;
  /** ICMP type and code. */
  icmp?: readonly [type: number, code: number];
}

/** A reset, or ICMP's "communication administratively prohibited". */
export function isRefusal({ proto, flags, icmp }: Packet): boolean {
  if (proto === protocol.tcp) return flags === (tcpFlag.rst | tcpFlag.ack);
  return icmp?.[0] === 3 && icmp[1] === 13;
}

export function parseFrame(frame: Buffer): Packet {
  const type = frame.readUInt16BE(12);
  const packet: Packet = {
    link: { to: macOf(frame.subarray(0, 6)), from: macOf(frame.subarray(6, 12)) },
    type,
  };
  const body = frame.subarray(14);
  if (type === etherType.arp) {
    packet.fromMac = macOf(body.subarray(8, 14));
    packet.from = addressOf(body.subarray(14, 18));
    packet.to = addressOf(body.subarray(24, 28));
  }
  if (type !== etherType.ipv4) return packet;
  const proto = body.readUInt8(9);
  Object.assign(packet, {
    proto,
    from: addressOf(body.subarray(12, 16)),
    to: addressOf(body.subarray(16, 20)),
  });
  const payload = body.subarray((body.readUInt8(0) & 15) * 4, body.readUInt16BE(2));
  if (proto === protocol.icmp) {
    packet.icmp = [payload.readUInt8(0), payload.readUInt8(1)];
    if (packet.icmp[0] !== 3) packet.echoId = payload.readUInt16BE(4);
  }
  if (proto !== protocol.tcp && proto !== protocol.udp) return packet;
  packet.fromPort = payload.readUInt16BE(0);
  packet.toPort = payload.readUInt16BE(2);
  if (proto === protocol.udp) packet.data = payload.subarray(8);
  else {
    packet.seq = payload.readUInt32BE(4);
    packet.flags = payload.readUInt8(13);
    packet.data = payload.subarray((payload.readUInt8(12) >> 4) * 4);
  }
  return packet;
}
