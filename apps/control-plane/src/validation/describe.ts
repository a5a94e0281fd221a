/** Says in words what a schema wants. */
import type { TSchema } from 'typebox';

type Node = Record<string, unknown>;

export function describe(schema: TSchema): string {
  const node = schema as Node;
  if (Array.isArray(node.enum)) return `one of ${node.enum.join(', ')}`;
  if (Array.isArray(node.anyOf)) return describeUnion(node.anyOf as Node[]);
  if ('const' in node) return String(node.const);
  switch (node.type) {
    case 'integer':
      return `an integer${range(node)}`;
    case 'number':
      return `a number${range(node)}`;
    case 'string':
      return `a string${text(node)}`;
    case 'array':
      return `an array${typeof node.maxItems === 'number' ? ` of at most ${node.maxItems} items` : ''}`;
    case 'object':
      return `an object${
        typeof node.maxProperties === 'number' ? ` of at most ${node.maxProperties} entries` : ''
      }`;
    default:
      return `of type ${String(node.type)}`;
  }
}

function describeUnion(branches: Node[]): string {
  if (branches.every((branch) => 'const' in branch)) {
    return `one of ${branches.map((branch) => String(branch.const)).join(', ')}`;
  }
  return branches.map((branch) => describe(branch as TSchema)).join(', or ');
}

function range(node: Node): string {
  const { minimum, maximum } = node;
  if (minimum !== undefined && maximum !== undefined) return ` between ${minimum} and ${maximum}`;
  if (minimum !== undefined) return ` of at least ${minimum}`;
  return maximum === undefined ? '' : ` of at most ${maximum}`;
}

const noNul = new Set(['^[^\\u0000]*$', '^[^\\u0000]+$']);

function text(node: Node): string {
  const { minLength, maxLength, pattern } = node;
  const parts: string[] = [];
  if (minLength !== undefined && maxLength !== undefined)
    parts.push(`of ${minLength} to ${maxLength} characters`);
  else if (maxLength !== undefined) parts.push(`of at most ${maxLength} characters`);
  else if (minLength !== undefined) parts.push(`of at least ${minLength} characters`);
  if (typeof pattern === 'string') parts.push(noNul.has(pattern) ? 'without NUL' : `that matches ${pattern}`);
  return parts.length === 0 ? '' : ` ${parts.join(' ')}`;
}

const longest = 60;

/** A value as the sender wrote it, cut to a readable length. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const json =
    typeof value === 'string' ? JSON.stringify(value.slice(0, longest + 1)) : JSON.stringify(value);
  return json.length <= longest ? json : `${json.slice(0, longest)}…`;
}
