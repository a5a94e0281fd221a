/** The parts of a Rust file that name modules: comments, literals and unit tests are taken out. */

export interface Reference {
  /** Segments as they are written, `crate`, `self` and `super` among them. */
  path: string[];
  /** Of a `use`: the name that it gives to the item, when it hands it on to others. */
  exportedAs?: string;
}

/** All paths of the file: those of `use`, whose groups are taken apart, and those in the code. */
export function references(source: string): Reference[] {
  const code = withoutTests(withoutLiterals(source));
  const found: Reference[] = [];
  const rest = code.replaceAll(
    /(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);/g,
    (_, shared: string | undefined, tree: string) => {
      for (const { path, name } of useTree(tree)) {
        found.push(shared === undefined ? { path } : { path, exportedAs: name });
      }
      return ' ';
    },
  );
  for (const [path] of rest.matchAll(/(?<![\w:])[a-z_]\w*(?:\s*::\s*\w+)+/g)) {
    found.push({ path: path.split('::').map((segment) => segment.trim()) });
  }
  return found;
}

/** `a::{b::C, self as d}` → a::b::C, a. */
function useTree(tree: string): { path: string[]; name: string }[] {
  const text = tree.trim();
  const open = text.indexOf('{');
  if (open < 0) {
    const [path = '', alias] = text.split(/\s+as\s+/);
    const segments = path
      .split('::')
      .map((segment) => segment.trim())
      .filter((segment) => segment !== '');
    if (segments.at(-1) === 'self' && segments.length > 1) segments.pop();
    return [{ path: segments, name: alias?.trim() ?? segments.at(-1) ?? '' }];
  }
  const prefix = text.slice(0, open);
  return parts(text.slice(open + 1, text.lastIndexOf('}'))).flatMap((part) => useTree(prefix + part));
}

/** Splits at the commas that lie in no inner group. */
function parts(text: string): string[] {
  const found = [''];
  let depth = 0;
  for (const letter of text) {
    if (letter === '{') depth++;
    if (letter === '}') depth--;
    if (letter === ',' && depth === 0) found.push('');
    else found[found.length - 1] += letter;
  }
  return found.filter((part) => part.trim() !== '');
}

function withoutLiterals(source: string): string {
  return source.replaceAll(
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|\b[bc]?r(#*)"[\s\S]*?"\1|\b[bc]?"(?:\\[\s\S]|[^"\\])*"|"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\[^\n]{1,8}?|[^'\\\n])'/g,
    ' ',
  );
}

function withoutTests(code: string): string {
  const start = code.search(/#\[cfg\(test\)\]\s*mod\s+\w+\s*\{/);
  if (start < 0) return code;
  let depth = 0;
  for (let at = code.indexOf('{', start); at < code.length; at++) {
    if (code[at] === '{') depth++;
    if (code[at] === '}') depth--;
    if (depth === 0) return code.slice(0, start) + withoutTests(code.slice(at + 1));
  }
  return code.slice(0, start);
}
