const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

/** A time in UTC as the agent writes it, with all its digits, or undefined when it is none. */
export function readTime(value: unknown): string | undefined {
  if (typeof value !== 'string' || !rfc3339.test(value)) return undefined;
  return Number.isNaN(Date.parse(value)) ? undefined : value;
}
