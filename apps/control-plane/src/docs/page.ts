/** The OpenAPI document as one HTML page: no script, no font and no style from anywhere else. */
import { hash } from 'node:crypto';
import { version } from '@perch/protocol';
import type { Page } from '../pages/index.ts';

type Json = Record<string, unknown>;

const style = `
:root{--bg:#fdfdfb;--fg:#22272b;--dim:#667078;--line:#e2e4df;--box:#f4f5f1;--accent:#1d6f5c}
@media (prefers-color-scheme:dark){:root{--bg:#16191b;--fg:#e3e6e4;--dim:#99a2a6;--line:#30363a;--box:#1f2427;--accent:#6fcbb2}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem 6rem;background:var(--bg);color:var(--fg);font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.9rem;margin:0}h2{margin:2.5rem 0 .5rem;font-size:1.15rem;text-transform:capitalize}
p{margin:.4rem 0}a{color:var(--accent)}.dim{color:var(--dim)}
code,pre{font:13.5px/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--box);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow:auto}
details{border:1px solid var(--line);border-radius:8px;margin:.5rem 0;background:var(--bg)}
summary{cursor:pointer;padding:.55rem .8rem;display:flex;gap:.8rem;align-items:baseline;flex-wrap:wrap}
summary::-webkit-details-marker{display:none}
details[open]>summary{border-bottom:1px solid var(--line)}
.in{padding:.4rem .9rem 1rem}.m{font-weight:700;min-width:4.2rem;color:var(--accent)}
h3{font-size:.95rem;margin:1rem 0 .3rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-top:1px solid var(--line)}
td:first-child{white-space:nowrap}nav a{margin-right:1rem}
`;

const escapes: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escapeHtml = (text: unknown) => String(text).replace(/[&<>"']/g, (char) => escapes[char] ?? '');

export interface StartLink {
  href: string;
  title: string;
  text: string;
}

export function renderPage(document: Json): Page {
  const info = document.info as Json;
  const schemas = ((document.components as Json).schemas ?? {}) as Record<string, Json>;
  const tags = byTag(document.paths as Record<string, Record<string, Json>>);
  return page(
    `${info.title} API`,
    `<h1>${escapeHtml(info.title)} API <span class="dim">${escapeHtml(info.version)}</span></h1>
<p>${escapeHtml(info.description)}</p>
<p class="dim">For programs: <a href="/openapi.json">openapi.json</a></p>
<nav>${[...tags.keys()].map((tag) => `<a href="#${escapeHtml(tag)}">${escapeHtml(tag)}</a>`).join('')}<a href="#schemas">schemas</a></nav>
${[...tags].map(([tag, operations]) => `<h2 id="${escapeHtml(tag)}">${escapeHtml(tag)}</h2>${operations.map((one) => operation(one, schemas)).join('')}`).join('')}
<h2 id="schemas">Schemas</h2>${Object.entries(schemas)
      .map(
        ([name, schema]) =>
          `<details id="schema-${escapeHtml(name)}"><summary><code>${escapeHtml(name)}</code></summary><div class="in">${fields(schema)}</div></details>`,
      )
      .join('')}`,
  );
}

/** Where a browser that asks for `/` is led on from. */
export function renderStartPage(links: readonly StartLink[]): Page {
  const items = links.map(
    ({ href, title, text }) =>
      `<p><a href="${escapeHtml(href)}">${escapeHtml(title)}</a> <span class="dim">${escapeHtml(text)}</span></p>`,
  );
  return page('Perch', `<h1>Perch <span class="dim">${escapeHtml(version)}</span></h1>${items.join('\n')}`);
}

function page(title: string, body: string): Page {
  const html = `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(title)}</title>
<style>${style}</style></head><body>
${body}
</body></html>`;
  const digest = hash('sha256', style, 'base64');
  return {
    html,
    contentSecurityPolicy: `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  };
}

interface Operation {
  method: string;
  path: string;
  operation: Json;
}

function byTag(paths: Record<string, Record<string, Json>>): Map<string, Operation[]> {
  const tags = new Map<string, Operation[]>();
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const tag = (operation.tags as string[] | undefined)?.[0] ?? 'other';
      tags.set(tag, [...(tags.get(tag) ?? []), { method, path, operation }]);
    }
  }
  return tags;
}

function operation({ method, path, operation }: Operation, schemas: Record<string, Json>): string {
  const parameters = (operation.parameters as Json[] | undefined) ?? [];
  const open = (operation.security as unknown[] | undefined)?.length === 0;
  const [type, body] = content(operation.requestBody);
  const parts = [
    operation.description ? `<p>${escapeHtml(operation.description)}</p>` : '',
    open ? '<p class="dim">Needs no key.</p>' : '',
    parameters.length > 0 ? `<h3>Parameters</h3>${parameterTable(parameters)}` : '',
    body ? `<h3>Body <span class="dim">${escapeHtml(type)}</span></h3>${fields(body)}` : '',
    `<h3>Example</h3><pre>${escapeHtml(curl(method, path, open, type, body, schemas))}</pre>`,
    `<h3>Answers</h3>${answerTable(operation.responses as Record<string, Json>)}`,
  ];
  return `<details><summary><span class="m"><code>${escapeHtml(method.toUpperCase())}</code></span><code>${escapeHtml(path)}</code><span class="dim">${escapeHtml(operation.summary ?? '')}</span></summary><div class="in">${parts.join('')}</div></details>`;
}

function content(holder: unknown): [type: string, schema: Json | undefined] {
  const [entry] = Object.entries(((holder as Json | undefined)?.content ?? {}) as Record<string, Json>);
  return [entry?.[0] ?? '', entry?.[1].schema as Json | undefined];
}

function parameterTable(parameters: Json[]): string {
  const rows = parameters.map(
    (one) =>
      `<tr><td><code>${escapeHtml(one.name)}</code></td><td>${escapeHtml(one.in)}</td><td>${type(one.schema as Json)}${one.required ? '' : ', optional'}</td><td>${escapeHtml(one.description ?? '')}</td></tr>`,
  );
  return `<table>${rows.join('')}</table>`;
}

function answerTable(responses: Record<string, Json>): string {
  const rows = Object.entries(responses).map(([status, answer]) => {
    const [mime, schema] = content(answer);
    const what = schema ? `${type(schema)} <span class="dim">${escapeHtml(mime)}</span>` : '';
    return `<tr><td><code>${escapeHtml(status)}</code></td><td>${escapeHtml(answer.description ?? '')}</td><td>${what}</td></tr>`;
  });
  return `<table>${rows.join('')}</table>`;
}

function fields(schema: Json): string {
  const properties = schema.properties as Record<string, Json> | undefined;
  if (!properties) return `<p>${type(schema)}</p>`;
  const required = (schema.required as string[] | undefined) ?? [];
  const rows = Object.entries(properties).map(
    ([name, property]) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${type(property)}${required.includes(name) ? '' : ', optional'}${property.default === undefined ? '' : `, default <code>${escapeHtml(JSON.stringify(property.default))}</code>`}</td><td>${escapeHtml(property.description ?? '')}</td></tr>`,
  );
  return `<table>${rows.join('')}</table>`;
}

function type(schema: Json): string {
  const reference = schema.$ref;
  if (typeof reference === 'string') {
    const name = reference.split('/').at(-1) ?? '';
    return `<a href="#schema-${escapeHtml(name)}">${escapeHtml(name)}</a>`;
  }
  if (Array.isArray(schema.enum))
    return schema.enum.map((one) => `<code>${escapeHtml(one)}</code>`).join(' | ');
  if (Array.isArray(schema.anyOf)) return (schema.anyOf as Json[]).map(type).join(' | ');
  if ('const' in schema) return `<code>${escapeHtml(JSON.stringify(schema.const))}</code>`;
  if (schema.type === 'array') return `array of ${type((schema.items ?? {}) as Json)}`;
  const { minimum, maximum } = schema;
  const range = minimum !== undefined && maximum !== undefined ? ` ${minimum}–${maximum}` : '';
  return `${escapeHtml(schema.type ?? 'any')}${escapeHtml(range)}`;
}

function curl(
  method: string,
  path: string,
  open: boolean,
  mime: string,
  body: Json | undefined,
  schemas: Record<string, Json>,
): string {
  const url = `http://127.0.0.1:7070${path.replace('{id}', '$ID')}`;
  const parts = [`curl${method === 'get' ? '' : ` -X ${method.toUpperCase()}`} "${url}"`];
  if (!open) parts.push('-H "X-API-Key: $PERCH_API_KEY"');
  if (mime === 'multipart/form-data') parts.push('-F path=notes.txt -F file=@notes.txt');
  else if (mime === 'application/octet-stream') parts.push('--data-binary @notes.txt');
  else if (body) {
    parts.push('-H "Content-Type: application/json"', `-d '${JSON.stringify(example(body, schemas))}'`);
  }
  return parts.join(' \\\n  ');
}

const samples: Record<string, unknown> = {
  cmd: 'python3',
  args: ['-c', 'print(6 * 7)'],
  path: 'notes.txt',
  source: 'notes.txt',
  destination: 'old/notes.txt',
  name: 'ci',
};

/** The required fields, and those whose default tells something. */
function example(schema: Json, schemas: Record<string, Json>): unknown {
  const reference = schema.$ref;
  const resolved = typeof reference === 'string' ? schemas[reference.split('/').at(-1) ?? ''] : schema;
  const required = (resolved?.required as string[] | undefined) ?? [];
  const entries = Object.entries((resolved?.properties ?? {}) as Record<string, Json>)
    .filter(
      ([name, property]) => required.includes(name) || name === 'args' || property.default !== undefined,
    )
    .map(([name, property]) => [name, samples[name] ?? property.default ?? property.minimum ?? 'text']);
  return Object.fromEntries(entries);
}
