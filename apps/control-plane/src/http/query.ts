import type { TSchema } from 'typebox';

/** A query, or the parts of a path, with its whole numbers and truths as such, where the schema wants them; anything else as it came. */
export function convertQuery(schema: TSchema, query: unknown): unknown {
  const properties = (schema as { properties?: Record<string, { type?: unknown }> }).properties ?? {};
  const converted: Record<string, unknown> = { ...(query as object) };
  for (const [name, value] of Object.entries(converted)) {
    const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
    if (type === 'integer' && typeof value === 'string' && /^-?\d{1,15}$/.test(value)) {
      converted[name] = Number(value);
    } else if (type === 'boolean' && (value === 'true' || value === 'false')) {
      converted[name] = value === 'true';
    }
  }
  return converted;
}
