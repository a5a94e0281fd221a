// Builds what guests are started from into the cache. `scripts/bootstrap.mjs` runs it; see there for the rest of the set-up.
import { parseArgs } from 'node:util';
import { BuildError, ensureArtifacts } from '../images/index.ts';

const { values } = parseArgs({ options: { refresh: { type: 'boolean', default: false } } });

// The modes of what a guest has are not a matter of who builds it.
process.umask(0o022);
try {
  await ensureArtifacts({ log: (line) => console.log(line), refresh: values.refresh });
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(`✗ ${error.message}\n  ${error.remedy}`);
  process.exitCode = 1;
}
