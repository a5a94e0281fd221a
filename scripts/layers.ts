/**
 * Holds the layers with dependency-cruiser, and first shows that it can see: with a parser that reads no
 * TypeScript it finds no modules and passes.
 */
import { rmSync, writeFileSync } from 'node:fs';
import type { Statement, VariableDeclarator } from '@swc/core';
import { Visitor } from '@swc/core/Visitor.js';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';
import { rules } from './layer-rules.ts';

const fewestModules = 100;
const planted = 'apps/host-agent/src/linux/planted-violation.ts';

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

writeFileSync(planted, "export { Lifecycle } from '../lifecycle/index.ts';\n");
let withViolation: ICruiseResult;
try {
  withViolation = await look();
} finally {
  rmSync(planted);
}
const seen = withViolation.summary.violations.some(({ from }) => from === planted);
if (!seen) fail('dependency-cruiser did not see a violation that was planted.');

const { summary } = await look();
if (summary.totalCruised < fewestModules)
  fail(`dependency-cruiser saw only ${summary.totalCruised} modules.`);
for (const { rule, from, to } of summary.violations) console.error(`${rule.name}: ${from} → ${to}`);
console.log(`${summary.totalCruised} modules, ${summary.violations.length} violations`);
if (summary.violations.length > 0) process.exitCode = 1;

async function look(): Promise<ICruiseResult> {
  const { options, ...ruleSet } = rules;
  const cruiseOptions = { ...options, ruleSet, validate: true } as ICruiseOptions;
  const { output } = await cruise(['apps', 'packages', 'images', 'scripts', 'tests', 'bench'], cruiseOptions);
  return output as ICruiseResult;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
