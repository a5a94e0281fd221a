/** Names of a sandbox that are not UTF-8: in text, a byte from 0x80 on is the character U+10FE00 + the byte. */

export function bytesOfName(text: string): Buffer {
  const parts = text.split(/([\u{10FE80}-\u{10FEFF}])/u);
  return Buffer.concat(
    parts.map((part, at) =>
      at % 2 === 1 ? Buffer.of((part.codePointAt(0) ?? 0) & 0xff) : Buffer.from(part),
    ),
  );
}

/** The bytes of a name, as the key of a map. */
export function keyOf(text: string): string {
  return bytesOfName(text).toString('latin1');
}
