/** Bodies of E2B's calls: each field is done as it says, or refused by its name. */
import { Env, limits, Metadata } from '@perch/protocol';
import { type TSchema, Type } from 'typebox';
import { type Check, checker } from '../validation/index.ts';
import { refuse } from './errors.ts';

type Fields = Record<string, unknown>;

/** Nothing is asked for by it. */
function isNothing(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/**
 * The body without fields that ask for nothing.
 * @param neutral fields that are not done, with the value by which they ask for nothing
 * @throws PerchError validation_failed with the name of a field that asks for what is not done
 */
function without(body: unknown, neutral: Record<string, unknown>, where = ''): unknown {
  if (body === null || typeof body !== 'object' || Array.isArray(body)) return body;
  const rest: Fields = {};
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined) continue;
    if (!Object.hasOwn(neutral, name)) rest[name] = value;
    else if (neutral[name] === undefined ? !isNothing(value) : value !== neutral[name]) refuse(where + name);
  }
  return rest;
}

const Timeout = Type.Integer({ minimum: 1, maximum: limits.timeoutSec.max });
const closed = { additionalProperties: false };

const Create = Type.Object(
  {
    templateID: Type.String({ minLength: 1, maxLength: 256 }),
    metadata: Type.Optional(Metadata),
    envVars: Type.Optional(Env),
    timeout: Type.Optional(Timeout),
    autoPause: Type.Optional(Type.Boolean()),
    autoPauseMemory: Type.Optional(Type.Boolean()),
    autoResume: Type.Optional(Type.Object({ enabled: Type.Boolean() }, closed)),
    secure: Type.Optional(Type.Boolean()),
    // The client starts the gateway of the template by itself, once the sandbox runs, and says so when there is none.
    mcp: Type.Optional(Type.Object({})),
    network: Type.Optional(
      Type.Object(
        {
          allowPublicTraffic: Type.Optional(Type.Boolean()),
          maskRequestHost: Type.Optional(
            Type.String({ pattern: '^[A-Za-z0-9.-]{1,253}(?::(?:\\d{1,5}|\\$\\{PORT\\}))?$' }),
          ),
        },
        closed,
      ),
    ),
  },
  closed,
);

/** All of them narrow what a sandbox may reach, or lead its traffic elsewhere. */
const egress = {
  allowOut: undefined,
  denyOut: undefined,
  // An empty list takes all resolvers away.
  dnsServers: null,
  egressProxy: undefined,
  rules: undefined,
  httpsPorts: undefined,
};

const checkCreate = checker(Create, 'the body');

export function readCreate(body: unknown) {
  const fields = without(body, {
    allow_internet_access: true,
    iam: undefined,
    volumeMounts: undefined,
  }) as Fields;
  const network = without(fields?.network, egress, 'network.');
  return checkCreate(network === undefined ? fields : { ...fields, network });
}

/** A reader of a body that may be left out. */
function reader<T extends TSchema>(schema: T, neutral: Record<string, unknown> = {}): Check<T> {
  const check = checker(schema, 'the body');
  return (body) => check(without(body ?? {}, neutral));
}

export const readConnect = reader(
  Type.Object({ timeout: Type.Optional(Timeout), memory: Type.Optional(Type.Boolean()) }, closed),
);
export const readResume = reader(
  Type.Object({ timeout: Type.Optional(Timeout), autoPause: Type.Optional(Type.Boolean()) }, closed),
);
export const readTimeout = reader(
  Type.Object({ timeout: Type.Integer({ minimum: 0, maximum: limits.timeoutSec.max }) }, closed),
);
export const readRefresh = reader(Type.Object({ duration: Type.Optional(Timeout) }, closed));
export const readPause = reader(
  Type.Object(
    { memory: Type.Optional(Type.Boolean()), requireHealthyGuest: Type.Optional(Type.Boolean()) },
    closed,
  ),
);
export const readSnapshot = reader(
  Type.Object(
    { name: Type.Optional(Type.String({ maxLength: 256 })), memory: Type.Optional(Type.Boolean()) },
    closed,
  ),
);
export const readFork = reader(
  Type.Object(
    { timeout: Type.Optional(Timeout), count: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })) },
    closed,
  ),
);
/** The whole of a sandbox's rules: without any it is as it always is here. */
export const readNetwork = reader(Type.Object({}, closed), { ...egress, allow_internet_access: true });
