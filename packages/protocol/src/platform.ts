/** Schemas of templates, hosts, API keys and health. */
import { type Static, Type } from 'typebox';

export const Template = Type.Object(
  {
    name: Type.String(),
    content_id: Type.String({ description: 'SHA-256 of the root disk.' }),
    size_bytes: Type.Integer({ description: 'Space the root disk occupies on the host.' }),
    disk_mb: Type.Integer({ description: 'Nominal size; the least disk_mb of a sandbox made from it.' }),
  },
  { $id: 'Template' },
);
export type Template = Static<typeof Template>;
export const TemplateList = Type.Object({ items: Type.Array(Template) }, { $id: 'TemplateList' });
export type TemplateList = Static<typeof TemplateList>;

export const Host = Type.Object(
  {
    id: Type.String(),
    status: Type.Union([Type.Literal('ready'), Type.Literal('not_ready'), Type.Literal('unreachable')]),
    problems: Type.Array(Type.String()),
    vmm: Type.String({ description: 'Monitor, version and accelerator.' }),
    disk: Type.String({ description: 'Format of the disks that sandboxes get.' }),
    memory_mb: Type.Object({ total: Type.Integer(), free: Type.Integer() }),
    disk_mb: Type.Object({ total: Type.Integer(), free: Type.Integer() }),
    sandboxes: Type.Integer(),
  },
  { $id: 'Host' },
);
export type Host = Static<typeof Host>;
export const HostList = Type.Object({ items: Type.Array(Host) }, { $id: 'HostList' });
export type HostList = Static<typeof HostList>;

export const ApiKey = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    prefix: Type.String({ description: 'The first characters, to tell keys apart.' }),
    created_at: Type.String({ format: 'date-time' }),
    last_used_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
  },
  { $id: 'ApiKey' },
);
export type ApiKey = Static<typeof ApiKey>;
export const ApiKeyList = Type.Object({ items: Type.Array(ApiKey) }, { $id: 'ApiKeyList' });
export type ApiKeyList = Static<typeof ApiKeyList>;
export const CreateApiKey = Type.Object(
  { name: Type.String({ minLength: 1, maxLength: 100 }) },
  { $id: 'CreateApiKey', additionalProperties: false },
);
export type CreateApiKey = Static<typeof CreateApiKey>;
export const NewApiKey = Type.Object(
  { ...ApiKey.properties, key: Type.String({ description: 'Shown this once.' }) },
  { $id: 'NewApiKey' },
);
export type NewApiKey = Static<typeof NewApiKey>;

export const Health = Type.Object(
  {
    status: Type.Union([Type.Literal('ok'), Type.Literal('full'), Type.Literal('unavailable')], {
      description: 'Full: all works, and there is no room for even the smallest sandbox.',
    }),
    problems: Type.Array(Type.String(), { description: 'Reasons why no sandbox can be created.' }),
    version: Type.String(),
  },
  { $id: 'Health' },
);
export type Health = Static<typeof Health>;
