/** The modules that a kernel module (`.ko`) names as its dependencies, from its `.modinfo` section. */
export function moduleDependencies(ko: Buffer): string[] {
  const key = 'depends=';
  const at = ko.indexOf(`\0${key}`) + 1;
  if (at === 0) return [];
  const start = at + key.length;
  const value = ko.toString('latin1', start, ko.indexOf(0, start));
  return value === '' ? [] : value.split(',');
}

/** The kernel takes `-` and `_` in module names as the same letter. */
export function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/**
 * The order in which modules load: each after all it depends on, once, and otherwise as asked for.
 * @param dependencies of every module that exists as a file; one that is missing is built in or unknown
 */
export function loadOrder(
  wanted: readonly string[],
  dependencies: ReadonlyMap<string, readonly string[]>,
): string[] {
  const order = new Set<string>();
  const open = new Set<string>();
  const visit = (name: string): void => {
    const needed = dependencies.get(name);
    if (needed === undefined || order.has(name)) return;
    if (open.has(name))
      throw new Error(`modules depend on each other in a circle: ${[...open, name].join(' → ')}`);
    open.add(name);
    for (const other of needed) visit(other);
    open.delete(name);
    order.add(name);
  };
  for (const name of wanted) visit(name);
  return [...order];
}
