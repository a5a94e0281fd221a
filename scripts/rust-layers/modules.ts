/** The modules of one crate, and which of them uses which. */
import { type Reference, references } from './source.ts';

/** Such as `process::child::run`; the root is the empty name. */
export type Module = string;

export interface Use {
  from: Module;
  to: Module;
}

/** @param files source text by its path below `src/` */
export function usesOf(files: ReadonlyMap<string, string>): Use[] {
  const modules = new Map([...files].map(([path, source]) => [moduleOf(path), references(source)]));
  const uses = new Map<string, Use>();
  for (const [from, found] of modules) {
    for (const reference of found) {
      // Handing an item on is no use of it: whoever takes it here uses the module that has it.
      if (reference.exportedAs !== undefined) continue;
      const to = resolve(modules, from, reference.path);
      if (to !== undefined && to !== from) uses.set(`${from} ${to}`, { from, to });
    }
  }
  return [...uses.values()];
}

function moduleOf(path: string): Module {
  const parts = path.replace(/\.rs$/, '').split('/');
  if (parts.at(-1) === 'mod' || (parts.length === 1 && parts[0] === 'main')) parts.pop();
  return parts.join('::');
}

type Modules = ReadonlyMap<Module, Reference[]>;

/** The module that has the item, through those that hand it on; undefined for one of another crate. */
function resolve(modules: Modules, from: Module, path: readonly string[], depth = 0): Module | undefined {
  const [first, ...rest] = path;
  if (first === undefined || depth > 20) return undefined;
  if (first === 'crate') return descend(modules, '', rest, depth);
  if (first === 'self') return descend(modules, from, rest, depth);
  if (first === 'super') {
    const above = from.split('::').slice(0, -1).join('::');
    return rest[0] === 'super' ? resolve(modules, above, rest, depth) : descend(modules, above, rest, depth);
  }
  return modules.has(below(from, first)) ? descend(modules, from, path, depth) : undefined;
}

function descend(
  modules: Modules,
  start: Module,
  path: readonly string[],
  depth: number,
): Module | undefined {
  let at = start;
  for (const segment of path) {
    const next = below(at, segment);
    if (modules.has(next)) {
      at = next;
      continue;
    }
    const handedOn = modules.get(at)?.find((reference) => reference.exportedAs === segment);
    return handedOn ? (resolve(modules, at, handedOn.path, depth + 1) ?? at) : at;
  }
  return at;
}

function below(module: Module, name: string): Module {
  return module === '' ? name : `${module}::${name}`;
}
