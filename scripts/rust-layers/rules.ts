/** The floors of the guest agent, the lowest first. A module uses only what lies on floors below its own. */
import type { Module, Use } from './modules.ts';

export const floors = [
  ['descriptor', 'errno', 'escape', 'machine'],
  ['paths'],
  ['http', 'users'],
  ['identity', 'rpc'],
  ['refusal'],
  ['filesystem', 'metrics', 'process', 'root_disk'],
  ['files', 'watch'],
  ['agent'],
  ['routes'],
  ['serve'],
  ['boot'],
  // main.rs
  [''],
];

export function violations(uses: readonly Use[]): string[] {
  return [...new Set([...uses.flatMap(({ from, to }) => upward(from, to) ?? []), ...circles(uses)])];
}

function upward(from: Module, to: Module): string | undefined {
  const [user, used] = [folder(from), folder(to)];
  if (user === used) return undefined;
  for (const name of [user, used]) if (floor(name) < 0) return `no floor: ${name}`;
  return floor(used) < floor(user) ? undefined : `upward: ${shown(from)} → ${shown(to)}`;
}

function folder(module: Module): string {
  return module.split('::')[0] ?? '';
}

function floor(name: string): number {
  return floors.findIndex((names) => names.includes(name));
}

/** One line for each module that is reached from itself, with the shortest way around. */
function circles(uses: readonly Use[]): string[] {
  const next = Map.groupBy(uses, ({ from }) => from);
  const found = new Map<string, string>();
  for (const start of next.keys()) {
    const ways: Module[][] = [[start]];
    const seen = new Set<Module>();
    for (const way of ways) {
      for (const { to } of next.get(way.at(-1) ?? '') ?? []) {
        if (to === start) {
          const members = [...way].sort().join(' ');
          if (!found.has(members)) found.set(members, `circle: ${[...way, start].map(shown).join(' → ')}`);
        }
        if (!seen.has(to)) ways.push([...way, to]);
        seen.add(to);
      }
    }
  }
  return [...found.values()];
}

function shown(module: Module): string {
  return module === '' ? 'main' : module;
}
