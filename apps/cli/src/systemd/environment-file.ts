/** Files of settings that systemd gives to a daemon: `EnvironmentFile=` of systemd.exec(5). */
import { CliError } from '../errors.ts';

export type Environment = Record<string, string>;

/** @throws CliError for a value that a line cannot hold; it may be a secret, and is not repeated */
export function formatEnvironment(heading: string, environment: Environment): string {
  const lines = Object.entries(environment)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => {
      if (/\p{Cc}/u.test(value))
        throw new CliError(`${name} holds a control character.`, 'Write it as one line of plain text.');
      return `${name}="${value.replace(/["\\$`]/g, '\\$&')}"\n`;
    });
  return `# ${heading}\n${lines.join('')}`;
}

/** @param path is named in errors @throws CliError for a line that is no setting */
export function parseEnvironment(path: string, text: string): Environment {
  const environment: Environment = {};
  for (const [at, line] of text.split('\n').entries()) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const [, name = '', rest = ''] = /^\s*([A-Za-z_]\w*)=(.*)$/s.exec(line) ?? [];
    const value = name === '' ? undefined : unquote(rest.trim());
    if (value === undefined)
      throw new CliError(
        `${path}, line ${at + 1}, is no setting.`,
        'Write each as NAME="VALUE", a line each.',
      );
    environment[name] = value;
  }
  return environment;
}

/** A value may hold what ends a line in Unicode. @returns undefined for quotes that do not end where the value does */
function unquote(text: string): string | undefined {
  const single = /^'([^']*)'$/.exec(text);
  if (single) return single[1];
  const double = /^"((?:[^"\\]|\\.)*)"$/s.exec(text);
  if (double) return double[1]?.replace(/\\(["\\$`])/g, '$1');
  return /["']/.test(text) ? undefined : text.replace(/\\(.)/gs, '$1');
}
