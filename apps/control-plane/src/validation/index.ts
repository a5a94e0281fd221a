/** Checks what came from outside against a schema, and says in words what is wrong with it. */
import { PerchError } from '@perch/protocol';
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { describe, show } from './describe.ts';

export interface Problem {
  where: string;
  message: string;
}

export type Check<T extends TSchema> = (value: unknown) => Static<T>;

interface Fault {
  keyword: string;
  schemaPath: string;
  instancePath: string;
  params: Record<string, unknown>;
  message: string;
}

const mostProblems = 10;

/**
 * A check that gives the value back, or throws `validation_failed`. `whole` is what the value is called when
 * it is wrong as a whole, such as "the body".
 */
export function checker<T extends TSchema>(schema: T, whole: string): Check<T> {
  let compiled: ReturnType<typeof Compile<T>> | undefined;
  return (value) => {
    compiled ??= Compile(schema);
    if (compiled.Check(value)) return value as Static<T>;
    const problems = problemsOf(schema, value, compiled.Errors(value) as unknown as Fault[], whole);
    throw validationError(problems);
  };
}

export function validationError(problems: Problem[]): PerchError {
  const message = problems.map((problem) => `${problem.where} ${problem.message}`).join('; ');
  return new PerchError('validation_failed', message, { problems });
}

function problemsOf(schema: TSchema, value: unknown, faults: Fault[], whole: string): Problem[] {
  const problems = new Map<string, Problem>();
  for (const fault of faults) {
    // Faults in the branches of a union are told once, by the union.
    if (/\/anyOf\/\d+/.test(fault.schemaPath) || fault.keyword === 'boolean') continue;
    for (const problem of explain(schema, value, fault, whole)) {
      const key = `${problem.where}`;
      if (!problems.has(key) && problems.size < mostProblems) problems.set(key, problem);
    }
  }
  if (problems.size === 0) problems.set('', { where: whole, message: 'is not what this call takes' });
  return [...problems.values()];
}

function explain(schema: TSchema, value: unknown, fault: Fault, whole: string): Problem[] {
  const path = fault.instancePath.split('/').slice(1).map(unescapePointer);
  const where = path.join('.') || whole;
  const child = (name: string) => [...path, name].map((part) => part.slice(0, 128)).join('.');
  if (fault.keyword === 'required') {
    const missing = (fault.params.requiredProperties as string[] | undefined) ?? [];
    return missing.map((name) => ({ where: child(name), message: 'is required' }));
  }
  if (fault.keyword === 'additionalProperties') {
    const extra = (fault.params.additionalProperties as string[] | undefined) ?? [];
    const named = nodeAt(schema, fault.schemaPath) as { patternProperties?: object } | undefined;
    const pattern = Object.keys(named?.patternProperties ?? {})[0];
    const message = pattern && path.length > 0 ? `is no valid name: it must match ${pattern}` : 'is unknown';
    return extra.map((name) => ({ where: child(name), message }));
  }
  const node = nodeAt(schema, fault.schemaPath);
  const wanted = node ? describe(node) : fault.message;
  return [{ where, message: `must be ${wanted}, got ${show(valueAt(value, path))}` }];
}

function unescapePointer(part: string): string {
  return part.replaceAll('~1', '/').replaceAll('~0', '~');
}

/** The schema that a path such as `#/properties/vcpus` names. A pattern in it may hold slashes. */
function nodeAt(schema: TSchema, path: string): TSchema | undefined {
  let node: unknown = schema;
  let rest = path.replace(/^#\/?/, '');
  while (rest !== '') {
    if (node === null || typeof node !== 'object') return undefined;
    const key = Object.keys(node)
      .filter((name) => rest === name || rest.startsWith(`${name}/`))
      .sort((a, b) => b.length - a.length)[0];
    if (key === undefined) return undefined;
    node = (node as Record<string, unknown>)[key];
    rest = rest.slice(key.length + 1);
  }
  return node as TSchema;
}

function valueAt(value: unknown, path: string[]): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      inner !== null && typeof inner === 'object' ? (inner as Record<string, unknown>)[key] : undefined,
    value,
  );
}
