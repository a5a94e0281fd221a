/**
 * Holds the layers with dependency-cruiser, and first shows that it can see: with a parser that reads no
 * TypeScript, or by a rule that means other folders, it finds nothing and passes. So a violation of each rule is
 * planted, and has to be found.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type { Statement, VariableDeclarator } from '@swc/core';
import { Visitor } from '@swc/core/Visitor.js';
import { cruise, type ICruiseOptions, type ICruiseResult, type IForbiddenRuleType } from 'dependency-cruiser';
import { type LayerRule, rules } from './layer-rules.ts';

const fewestModules = 100;

// The visitor that dependency-cruiser builds on throws at `using` declarations, which it does not know.
interface StatementVisitor {
  visitStatement(statement: Statement | UsingDeclaration): unknown;
  visitVariableDeclarators(declarators: VariableDeclarator[]): unknown;
}
interface UsingDeclaration {
  type: 'UsingDeclaration';
  decls: VariableDeclarator[];
}
const visitor = Visitor.prototype as unknown as StatementVisitor;
const { visitStatement } = visitor;
visitor.visitStatement = function (statement) {
  if (statement.type !== 'UsingDeclaration') return visitStatement.call(this, statement);
  this.visitVariableDeclarators(statement.decls);
  return statement;
};

for (const name of unseen(await lookAtPlanted())) fail(`The planted violation of ${name} was not found.`);

const { summary } = await look();
if (summary.totalCruised < fewestModules) fail(`Only ${summary.totalCruised} modules were found.`);
for (const { rule, from, to } of summary.violations) fail(`${rule.name}: ${from} → ${to}`);
console.log(
  `${summary.totalCruised} modules, ${rules.length} rules, ${summary.violations.length} violations`,
);

async function lookAtPlanted(): Promise<ICruiseResult> {
  const files = rules.flatMap(({ planted }) => Object.entries(planted));
  for (const [path] of files) if (existsSync(path)) throw new Error(`${path} is there: remove it.`);
  try {
    for (const [path, source] of files) writeFileSync(path, source);
    return await look();
  } finally {
    for (const [path] of files) rmSync(path, { force: true });
  }
}

/** Names of the rules by which nothing of what was planted for them is forbidden. */
function unseen({ summary: { violations } }: ICruiseResult): string[] {
  const isSeen = (name: string, paths: readonly string[]) =>
    violations.some(({ rule, from }) => rule.name === name && paths.includes(from));
  return rules.filter(({ name, planted }) => !isSeen(name, Object.keys(planted))).map(({ name }) => name);
}

async function look(): Promise<ICruiseResult> {
  const options: ICruiseOptions = {
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(target|dist)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.mjs', '.js', '.cjs', '.json'],
    },
    ruleSet: { forbidden: rules.map(forbidden) },
    validate: true,
  };
  const { output } = await cruise(
    ['apps', 'packages', 'images', 'scripts', 'tests', 'bench', 'lab'],
    options,
  );
  return output as ICruiseResult;
}

function fail(message: string): void {
  console.error(message);
  process.exitCode = 1;
}

/** A rule as dependency-cruiser takes it, which knows nothing of what is planted. */
function forbidden({ name, comment, from, to }: LayerRule): IForbiddenRuleType {
  return { name, from, to, severity: 'error', ...(comment === undefined ? {} : { comment }) };
}
