/** `npm run check`: types, lint, format, layers, dead code, of TypeScript and Rust. */
import { cargoEnv } from './cargo.ts';
import { runSteps } from './steps.ts';

const failed = await runSteps([
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'format and lint', command: ['biome', 'ci', '.'] },
  { name: 'promises', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'layers', command: ['node', 'scripts/layers.ts'] },
  { name: 'layers of Rust', command: ['node', 'scripts/rust-layers.ts'] },
  { name: 'documents', command: ['node', 'scripts/docs.ts', '--check'] },
  { name: 'dead code', command: ['knip'] },
  { name: 'code that only tests use', command: ['knip', '--production'] },
  { name: 'rustfmt', command: ['cargo', 'fmt', '--all', '--check'] },
  {
    name: 'clippy',
    command: ['cargo', 'clippy', '--locked', '--all-targets', '--', '-D', 'warnings'],
    env: cargoEnv,
  },
]);
if (failed.length > 0) {
  console.error(`Failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
