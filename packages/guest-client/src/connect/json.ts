/** JSON that the guest wrote: nothing of its shape is taken for granted. */

export type Json = Record<string, unknown>;

/** The object in `bytes`, or undefined when they hold none. */
export function parseObject(bytes: Buffer): Json | undefined {
  try {
    return asObject(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

export function asObject(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

/** A 64-bit integer is text in protobuf's JSON, and a default is left out. */
export function asInteger(value: unknown, min: number, max: number): number | undefined {
  const number = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : (value ?? 0);
  const fits = typeof number === 'number' && Number.isSafeInteger(number) && number >= min && number <= max;
  return fits ? number : undefined;
}

export function asText(value: unknown, maxLength: number): string | undefined {
  const text = value ?? '';
  return typeof text === 'string' && text.length <= maxLength ? text : undefined;
}
