/** Unit files: the syntax of systemd.syntax(7). */
export type Section = readonly (readonly [key: string, value: string])[];
export type Unit = Readonly<Record<string, Section>>;

export function formatUnit(heading: string, unit: Unit): string {
  const sections = Object.entries(unit).map(
    ([name, lines]) => `\n[${name}]\n${lines.map(([key, value]) => `${key}=${value}\n`).join('')}`,
  );
  return `# ${heading}\n${sections.join('')}`;
}

/** The values of a key, in their order; an empty list where there is none. */
export function valuesOf(text: string, section: string, key: string): string[] {
  let at = '';
  return text.split('\n').flatMap((line) => {
    const header = /^\[(.*)\]$/.exec(line)?.[1];
    if (header !== undefined) at = header;
    return at === section && line.startsWith(`${key}=`) ? [line.slice(key.length + 1)] : [];
  });
}

/** Words of a command or a list of paths. `$` has a meaning in commands only, where `$$` is one. */
export function words(all: readonly string[]): string {
  return all.map((word) => (/^[\w@+=:,./-]+$/.test(word) ? word : quoted(word))).join(' ');
}

export function command(all: readonly string[]): string {
  return words(all).replaceAll('$', '$$$$');
}

/** `%` begins a specifier. */
export function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;
}

/** Undoes `quoted`, where there are quotes. */
export function unquoted(text: string): string {
  const inside = /^"(.*)"$/.exec(text)?.[1];
  return inside === undefined ? text : inside.replaceAll('%%', '%').replace(/\\(["\\])/g, '$1');
}
