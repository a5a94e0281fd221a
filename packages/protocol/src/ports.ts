/** Schemas of `…/ports`: the servers in a sandbox. */
import { type Static, Type } from 'typebox';
import type { ErrorBody } from './error-body.ts';

const Port = Type.Integer({ minimum: 1, maximum: 65_535 });

export const SandboxPort = Type.Object(
  {
    port: Port,
    addresses: Type.Array(Type.String(), {
      description: 'Of the sandbox, on which programs listen: 0.0.0.0 and :: stand for all of them.',
    }),
    url: Type.Union([Type.String(), Type.Null()], {
      description: 'Where it is reached. Null when it listens on the loopback of the sandbox alone.',
    }),
  },
  { $id: 'SandboxPort' },
);
export type SandboxPort = Static<typeof SandboxPort>;

/** By number. */
export const SandboxPorts = Type.Object(
  {
    items: Type.Array(SandboxPort),
    next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'Null on the last page.' }),
    url_pattern: Type.String({
      description:
        'URL of any port of the sandbox, with {port} in the place of its number, listened on or not.',
    }),
    traffic_token: Type.Union([Type.String(), Type.Null()], {
      description:
        'For the header E2b-Traffic-Access-Token of requests to these URLs. Null: none is asked for.',
    }),
  },
  { $id: 'SandboxPorts' },
);
export type SandboxPorts = Static<typeof SandboxPorts>;

export const ListPortsQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
    cursor: Type.Optional(
      Type.String({ pattern: '^\\d{1,5}$', description: 'next_cursor of the page before.' }),
    ),
  },
  { additionalProperties: false },
);

/**
 * The messages of the server of `ports/{port}/stream`, beside binary ones, which are the bytes. `start`: the program has
 * taken the connection. `end`: it sends nothing more, and may still read. An `error` is the last.
 */
export type PortServerMessage = { type: 'start' } | { type: 'end' } | ({ type: 'error' } & ErrorBody);

/** The client sends nothing more, and reads on. Its bytes are binary messages. */
export interface PortClientMessage {
  type: 'end';
}
