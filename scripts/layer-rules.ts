/** The layers of docs/architecture/host-agent.md, as rules. */
import type { IConfiguration } from 'dependency-cruiser';

const means = ['guest', 'vmm', 'disk', 'network', 'snapshot', 'images'];
const hostLayers = ['api', 'lifecycle', ...means, 'linux'];
/** Tests and their helpers stand outside of the layers. */
const tests = '(\\.test\\.ts$|[/-]testing(/|\\.ts$)|/test-[a-z-]+\\.ts$)';
const hostFolder = (names: readonly string[]) => `^apps/host-agent/src/(${names.join('|')})/`;

export const rules: IConfiguration = {
  forbidden: [
    { name: 'no-circle', severity: 'error', from: {}, to: { circular: true } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'apps-do-not-import-each-other',
      severity: 'error',
      from: { path: '^apps/([^/]+)/' },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'packages-do-not-import-apps',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(apps|scripts|images|tests|bench)/' },
    },
    {
      name: 'protocol-imports-nothing-of-ours',
      severity: 'error',
      from: { path: '^packages/protocol/' },
      to: { path: '^(apps|packages/(?!protocol))' },
    },
    {
      name: 'by-the-face',
      comment: 'Nothing reaches past the index.ts of a folder or a package.',
      severity: 'error',
      from: { path: '^apps/([^/]+)/src/([^/]+)/', pathNot: tests },
      to: {
        path: '^apps/$1/src/[^/]+/',
        pathNot: ['^apps/$1/src/$2/', '^apps/[^/]+/src/[^/]+/index\\.ts$'],
      },
    },
    {
      name: 'package-by-its-face',
      severity: 'error',
      from: { path: '^(apps|tests|bench|scripts)/' },
      to: { path: '^packages/[^/]+/src/', pathNot: '^packages/[^/]+/src/index\\.ts$' },
    },
    {
      name: 'host-agent-linux-is-the-bottom',
      severity: 'error',
      from: { path: hostFolder(['linux']) },
      to: { path: hostFolder(hostLayers.filter((name) => name !== 'linux')) },
    },
    {
      name: 'failpoints-know-nothing',
      comment: 'Everything may import them.',
      severity: 'error',
      from: { path: '^(apps/[^/]+/src|packages)/failpoints/', pathNot: tests },
      to: { path: '^(apps|packages)/', pathNot: ['^apps/[^/]+/src/failpoints/', '^packages/failpoints/'] },
    },
    {
      name: 'host-agent-lifecycle-is-above-its-means',
      severity: 'error',
      from: { path: hostFolder(means) },
      to: { path: hostFolder(['api', 'lifecycle']) },
    },
    {
      name: 'host-agent-lifecycle-knows-no-api',
      severity: 'error',
      from: { path: hostFolder(['lifecycle']) },
      to: { path: hostFolder(['api']) },
    },
    {
      name: 'system-calls-only-in-linux',
      severity: 'error',
      from: { path: '^apps/host-agent/src/(?!linux/)', pathNot: tests },
      to: { path: '(^|/)node_modules/koffi/|^(node:)?child_process$', dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
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
  },
};
