/** Ports that programs listen on, in the kernel's words: proc_net_tcp of the kernel's documentation. */
import { isIPv6 } from 'node:net';

export interface Listening {
  port: number;
  address: string;
}

/** TCP_LISTEN, as the fourth field has it. */
const listen = '0A';
/** Longest line that is looked at. The kernel's have 150 characters. */
const longestLine = 512;

/** @param text of /proc/net/tcp or tcp6, whole or its beginning; a guest may have written anything */
export function parseListening(text: string): Listening[] {
  return text.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.slice(0, longestLine).trim().split(/\s+/, 4);
    const match = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(local);
    if (state !== listen || !match?.[1] || !match[2]) return [];
    const port = Number.parseInt(match[2], 16);
    return port === 0 ? [] : [{ port, address: addressOf(match[1]) }];
  });
}

/** Words of 32 bits, each in the byte order of the machine. */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, 'hex');
  bytes.swap32();
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(at * 2).toString(16)).join(':');
  const short = new URL(`http://[${groups}]`).hostname.slice(1, -1);
  return isIPv6(short) ? short : groups;
}

/** Whether packets from outside of the machine get there. */
export function isReachable(address: string): boolean {
  return !/^(127\.|::1$|::ffff:7f)/.test(address);
}
