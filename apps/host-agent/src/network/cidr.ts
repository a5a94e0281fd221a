/** IPv4 addresses as unsigned 32-bit numbers, and ranges of them. */

export interface Range {
  /** First address. */
  base: number;
  /** 0..32 */
  prefix: number;
}

const octetPattern = /^(0|[1-9][0-9]{0,2})$/;

/** @returns undefined for anything but four plain decimal octets */
export function parseAddress(text: string): number | undefined {
  const octets = text.split('.');
  if (octets.length !== 4) return undefined;
  let address = 0;
  for (const octet of octets) {
    if (!octetPattern.test(octet) || Number(octet) > 255) return undefined;
    address = address * 256 + Number(octet);
  }
  return address;
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.');
}

export const sizeOf = (range: Range): number => 2 ** (32 - range.prefix);

/** `a.b.c.d/prefix` with no bits set below the prefix; an address alone is a range of one. */
export function parseRange(text: string): Range | undefined {
  const [addressText = '', prefixText = '32', ...rest] = text.split('/');
  const base = parseAddress(addressText);
  if (rest.length > 0 || base === undefined || !/^(0|[1-9][0-9]?)$/.test(prefixText)) return undefined;
  const range = { base, prefix: Number(prefixText) };
  return range.prefix <= 32 && base % sizeOf(range) === 0 ? range : undefined;
}

export const formatRange = (range: Range): string => `${formatAddress(range.base)}/${range.prefix}`;

/** The range of that size which holds the address. */
export function rangeAround(address: number, prefix: number): Range {
  return { base: address - (address % 2 ** (32 - prefix)), prefix };
}

export function contains(outer: Range, inner: Range): boolean {
  return inner.prefix >= outer.prefix && rangeAround(inner.base, outer.prefix).base === outer.base;
}

export const overlaps = (a: Range, b: Range): boolean => contains(a, b) || contains(b, a);

/** A range that the source code names. */
export function knownRange(text: string): Range {
  const range = parseRange(text);
  if (range === undefined) throw new Error(`not an address range: ${text}`);
  return range;
}
