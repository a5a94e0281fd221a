import type { TSchema } from 'typebox';

/** A query with its whole numbers as numbers, where the schema wants numbers; anything else stays as it came. */
export function convertQuery(schema: TSchema, query: unknown): unknown {
  const properties = (schema as { properties?: Record<string, { type?: unknown }> }).properties ?? {};
  const converted: Record<string, unknown> = { ...(query as object) };
  for (const [name, value] of Object.entries(converted)) {
    const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
    if (type === 'integer' && typeof value === 'string' && /^-?\d{1,15}$/.test(value)) {
      converted[name] = Number(value);
    }
  }
  return converted;
}
