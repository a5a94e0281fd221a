/**
 * Part of each bundle (programs.ts): stacks show places in our sources. Node's --enable-source-maps would hold the map,
 * which is 10 MB of memory when it is ready for use, from the start to the end; this holds it while stacks are shown.
 */
import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const keepMs = 60_000;
const bundle = import.meta.url;
let map: SourceMap | undefined;

Error.prepareStackTrace = (error, sites) =>
  [Error.prototype.toString.call(error), ...sites.map((site) => `    at ${describe(site)}`)].join('\n');

/** Never throws: a failure here would hide the one that is told. */
function describe(site: NodeJS.CallSite): string {
  const text = `${site}`;
  try {
    const [line, column] = [site.getLineNumber(), site.getColumnNumber()];
    if (site.getFileName() !== bundle || line === null || column === null) return text;
    const place = sourceOf(line, column);
    return place === undefined ? text : text.replace(`${bundle}:${line}:${column}`, place);
  } catch {
    return text;
  }
}

/** Undefined in packages, which the map leaves out. */
function sourceOf(line: number, column: number): string | undefined {
  const entry = readMap().findEntry(line - 1, column - 1);
  if (!('originalSource' in entry) || !entry.originalSource) return undefined;
  const file = resolve(dirname(fileURLToPath(bundle)), entry.originalSource);
  return `${file}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
}

function readMap(): SourceMap {
  if (map) return map;
  map = new SourceMap(JSON.parse(readFileSync(fileURLToPath(`${bundle}.map`), 'utf8')) as SourceMapPayload);
  setTimeout(() => {
    map = undefined;
  }, keepMs).unref();
  return map;
}
