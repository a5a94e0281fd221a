/**
 * The layers of docs/architecture/, as rules. Each comes with a violation of it, files by their paths,
 * which `layers.ts` plants to see that the rule is held: one whose folders have other names by now holds nothing.
 */
import type { IRegularForbiddenRuleType } from 'dependency-cruiser';

export interface LayerRule extends Pick<IRegularForbiddenRuleType, 'comment' | 'from' | 'to'> {
  name: string;
  planted: Readonly<Record<string, string>>;
}

const host = 'apps/host-agent/src';
const means = ['guest', 'vmm', 'disk', 'network', 'snapshot', 'images'];
const hostLayers = ['api', 'lifecycle', ...means, 'linux'];
/** Tests and their helpers stand outside of the layers. */
const tests = '(\\.test\\.ts$|[/-]testing(/|\\.ts$)|/test-[a-z-]+\\.ts$)';
const hostFolder = (names: readonly string[]) => `^${host}/(${names.join('|')})/`;
const importing = (what: string) => `import ${JSON.stringify(what)};\n`;

/**
 * Folders of `root` of which each may import those below it, by their faces, and none above it.
 * @param order from the top down
 */
export function floors(root: string, order: readonly string[]): LayerRule[] {
  return order.slice(1).map((name, at) => ({
    name: `${root}/${name}-is-below-${order[at]}`,
    from: { path: `^${root}/${name}/`, pathNot: tests },
    to: { path: `^${root}/(${order.slice(0, at + 1).join('|')})/` },
    planted: { [`${root}/${name}/planted.ts`]: importing(`../${order[at]}/index.ts`) },
  }));
}

const lifecycle = ['fsck', 'start', 'ready', 'sandbox', 'checkpoints', 'journal'];

export const rules: readonly LayerRule[] = [
  {
    name: 'no-circle',
    from: {},
    to: { circular: true },
    planted: {
      'packages/protocol/src/planted-circle.ts': importing('./planted-other-half.ts'),
      'packages/protocol/src/planted-other-half.ts': importing('./planted-circle.ts'),
    },
  },
  {
    name: 'resolvable',
    from: {},
    to: { couldNotResolve: true },
    planted: { 'packages/protocol/src/planted-missing.ts': importing('./there-is-none.ts') },
  },
  {
    name: 'apps-do-not-import-each-other',
    from: { path: '^apps/([^/]+)/' },
    to: { path: '^apps/', pathNot: '^apps/$1/' },
    planted: { 'apps/cli/src/planted.ts': importing('../../control-plane/src/hosts/index.ts') },
  },
  {
    name: 'packages-do-not-import-apps',
    from: { path: '^packages/' },
    to: { path: '^(apps|scripts|images|tests|bench|lab)/' },
    planted: { 'packages/sdk/src/planted-app.ts': importing('../../../apps/cli/src/run.ts') },
  },
  {
    name: 'protocol-imports-nothing-of-ours',
    from: { path: '^packages/protocol/' },
    to: { path: '^(apps|packages/(?!protocol))' },
    planted: { 'packages/protocol/src/planted-import.ts': importing('@perch/sdk') },
  },
  {
    name: 'node-kit-imports-nothing-of-ours',
    from: { path: '^packages/node-kit/' },
    to: { path: '^(apps|packages/(?!node-kit))' },
    planted: { 'packages/node-kit/src/planted-import.ts': importing('@perch/sdk') },
  },
  {
    name: 'by-the-face',
    comment: 'Nothing reaches past the index.ts of a folder or a package.',
    from: { path: '^apps/([^/]+)/src/([^/]+)/', pathNot: tests },
    to: {
      path: '^apps/$1/src/[^/]+/',
      pathNot: ['^apps/$1/src/$2/', '^apps/[^/]+/src/[^/]+/index\\.ts$'],
    },
    planted: { [`${host}/api/planted.ts`]: importing('../linux/process.ts') },
  },
  {
    name: 'package-by-its-face',
    from: { path: '^(apps|tests|bench|scripts|lab)/' },
    to: { path: '^packages/[^/]+/src/', pathNot: '^packages/[^/]+/src/index\\.ts$' },
    planted: { 'bench/planted.ts': importing('../packages/protocol/src/ids.ts') },
  },
  {
    name: 'host-agent-linux-is-the-bottom',
    from: { path: hostFolder(['linux']) },
    to: { path: hostFolder(hostLayers.filter((name) => name !== 'linux')) },
    planted: { [`${host}/linux/planted.ts`]: importing('../disk/index.ts') },
  },
  {
    name: 'failpoints-know-nothing',
    comment: 'Everything may import them.',
    from: { path: '^(apps/[^/]+/src|packages)/failpoints/', pathNot: tests },
    to: { path: '^(apps|packages)/', pathNot: ['^apps/[^/]+/src/failpoints/', '^packages/failpoints/'] },
    planted: { [`${host}/failpoints/planted.ts`]: importing('../linux/index.ts') },
  },
  {
    name: 'host-agent-lifecycle-is-above-its-means',
    from: { path: hostFolder(means) },
    to: { path: hostFolder(['api', 'lifecycle']) },
    planted: { [`${host}/disk/planted.ts`]: importing('../lifecycle/index.ts') },
  },
  {
    name: 'host-agent-lifecycle-knows-no-api',
    from: { path: hostFolder(['lifecycle']) },
    to: { path: hostFolder(['api']) },
    planted: { [`${host}/lifecycle/planted.ts`]: importing('../api/index.ts') },
  },
  ...floors(`${host}/lifecycle`, lifecycle),
  {
    name: 'host-agent-lifecycle-by-the-face',
    from: { path: `^${host}/lifecycle/([^/]+)`, pathNot: tests },
    to: {
      path: `^${host}/lifecycle/[^/]+/`,
      pathNot: [`^${host}/lifecycle/$1/`, `^${host}/lifecycle/[^/]+/index\\.ts$`],
    },
    planted: { [`${host}/lifecycle/start/planted-past.ts`]: importing('../journal/mutex.ts') },
  },
  {
    name: 'host-agent-lifecycle-is-put-together-on-top',
    from: { path: `^${host}/lifecycle/[^/]+/`, pathNot: tests },
    to: { path: `^${host}/lifecycle/[^/]+\\.ts$` },
    planted: { [`${host}/lifecycle/fsck/planted-top.ts`]: importing('../lifecycle.ts') },
  },
  {
    name: 'system-calls-only-in-linux',
    from: { path: `^${host}/(?!linux/)`, pathNot: tests },
    to: { path: '(^|/)node_modules/koffi/|^(node:)?child_process$', dependencyTypesNot: ['type-only'] },
    planted: { [`${host}/guest/planted.ts`]: importing('node:child_process') },
  },
  {
    name: 'fronts-do-not-know-each-other',
    from: { path: '^apps/control-plane/src/(v1|e2b|edge)/', pathNot: tests },
    to: { path: '^apps/control-plane/src/(v1|e2b|edge)/', pathNot: '^apps/control-plane/src/$1/' },
    planted: { 'apps/control-plane/src/v1/planted-front.ts': importing('../e2b/index.ts') },
  },
  ...floors('apps/control-plane/src', [
    'v1',
    'e2b',
    'edge',
    'http',
    'reconciler',
    'exec',
    'files',
    'ports',
    'sandboxes',
    'snapshots',
    'guests',
    'hosts',
    'auth',
    'docs',
    'pages',
    'metrics',
    'names',
    'database',
    'validation',
    'config',
  ]),
];
