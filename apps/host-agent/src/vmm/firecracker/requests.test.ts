import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  type ApiRequest,
  bootRequests,
  count,
  describe as describeRequest,
  flush,
  limitRequests,
  loadRequest,
  machineConfig,
  pause,
  resume,
  saveRequest,
  start,
} from './requests.ts';

/** Firecracker's own description of its API, where it lies beside the checkout. */
const description = join(import.meta.dirname, '../../../../../../shared/data/firecracker-api.yaml');

const machine = {
  ...{ vcpus: 2, memoryMb: 512, kernelArguments: 'console=ttyS0' },
  network: { tap: 'tap0', mac: '02:fc:00:00:00:05' },
};
const all: ApiRequest[] = [
  ...bootRequests(machine),
  ...[start, pause, resume, describeRequest, machineConfig, count, flush],
  ...limitRequests({ diskBytes: 2 ** 20, diskRequests: 100, networkBytes: 2 ** 21 }),
  ...limitRequests({}),
  ...[saveRequest('Diff'), saveRequest('Full'), loadRequest('tap0', 'File'), loadRequest('tap0', 'Uffd')],
];

interface Description {
  paths: Record<string, Record<string, { parameters?: { in: string; schema?: { $ref: string } }[] }>>;
  definitions: Record<string, { properties?: Record<string, unknown> }>;
}

const isThere = existsSync(description);
const unless = isThere ? '' : `: skipped, there is no ${description}`;

describe.runIf(isThere)(`each request is one that the description of the API knows${unless}`, () => {
  const { paths, definitions } = isThere
    ? (parse(readFileSync(description, 'utf8')) as Description)
    : { paths: {}, definitions: {} };
  const ajv = new Ajv({ strict: false, validateFormats: false });

  test.each(all)('$method $path', ({ method, path, body }) => {
    const template = Object.keys(paths).find((one) =>
      new RegExp(`^${one.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`).test(path),
    );
    const operation = paths[template ?? '']?.[method.toLowerCase()];
    expect(operation, 'known').toBeDefined();
    const schema = operation?.parameters?.find((one) => one.in === 'body')?.schema;
    expect(schema !== undefined, 'takes a body').toBe(body !== undefined);
    if (!schema) return;
    const known = definitions[schema.$ref.split('/').at(-1) ?? '']?.properties ?? {};
    expect(Object.keys(known)).toEqual(expect.arrayContaining(Object.keys(body ?? {})));
    const validate = ajv.compile({ definitions, ...schema });
    expect(validate(body), JSON.stringify(validate.errors)).toBe(true);
  });
});

test('a limit is that of a second; a guest without one is held to none, whatever its state says', () => {
  const [disk, network] = limitRequests({ diskRequests: 100, networkBytes: 5000 });
  const unlimited = { size: 0, refill_time: 0 };
  expect(disk?.body).toEqual({
    drive_id: 'rootfs',
    rate_limiter: { bandwidth: unlimited, ops: { size: 100, refill_time: 1000 } },
  });
  const both = { bandwidth: { size: 5000, refill_time: 1000 }, ops: unlimited };
  expect(network?.body).toEqual({ iface_id: 'eth0', rx_rate_limiter: both, tx_rate_limiter: both });
});
