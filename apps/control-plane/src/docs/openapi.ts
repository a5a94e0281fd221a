/** The OpenAPI 3.1 document, made from the schemas that also check requests. */
import { version } from '@perch/protocol';

type Json = Record<string, unknown>;

export interface RouteSchema {
  summary?: string;
  description?: string;
  tags?: string[];
  /** Bodies that are no JSON, which no schema checks: by content type, what is in them. */
  consumes?: Record<string, Json>;
  params?: Json;
  querystring?: Json;
  body?: Json;
  /** No body at all is as good as an empty object. */
  optionalBody?: boolean;
  /** By status. A string is the description of an answer without a JSON body. */
  response?: Record<string, Json | string>;
}

const methods = ['get', 'post', 'put', 'delete'];

export class OpenApi {
  readonly #paths: Record<string, Record<string, Json>> = {};
  readonly #components: Record<string, Json> = {};
  readonly #patterns: { pattern: RegExp; methods: string[] }[] = [];

  add(method: string, url: string, schema: unknown, access: 'none' | 'ticket' | undefined): void {
    const path = url.replace(/:(\w+)/g, '{$1}');
    const item = this.#paths[path] ?? {};
    this.#paths[path] = item;
    if (Object.keys(item).length === 0) {
      this.#patterns.push({ pattern: new RegExp(`^${url.replace(/:\w+/g, '[^/]+')}$`), methods: [] });
    }
    this.#patterns.find(({ pattern }) => pattern.test(url))?.methods.push(method);
    if (methods.includes(method.toLowerCase())) {
      item[method.toLowerCase()] = this.#operation((schema ?? {}) as RouteSchema, access);
    }
  }

  /** Methods that a path takes; none when there is no such path. */
  methodsOf(path: string): string[] {
    return this.#patterns.find(({ pattern }) => pattern.test(path))?.methods ?? [];
  }

  document(): Json {
    return {
      openapi: '3.1.0',
      info: {
        title: 'Perch',
        version,
        description:
          'MicroVM sandboxes for code that nobody trusts. Every call but /, /health, /openapi.json, /docs and /test ' +
          'needs an API key in the X-API-Key header. Every error has the form of the schema Error.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      security: [{ apiKey: [] }],
      paths: this.#paths,
      components: {
        schemas: this.#components,
        securitySchemes: {
          apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          ticket: { type: 'apiKey', in: 'query', name: 'ticket' },
        },
      },
    };
  }

  #operation(schema: RouteSchema, access: 'none' | 'ticket' | undefined): Json {
    const parameters = [
      ...this.#parameters(schema.params, 'path'),
      ...this.#parameters(schema.querystring, 'query').filter(({ name }) => name !== 'ticket'),
    ];
    return {
      summary: schema.summary,
      ...(schema.description ? { description: schema.description } : {}),
      tags: schema.tags,
      ...(parameters.length > 0 ? { parameters } : {}),
      ...(schema.body || schema.consumes ? { requestBody: this.#requestBody(schema) } : {}),
      responses: this.#responses(schema.response ?? {}, access),
      ...(access === 'none' ? { security: [] } : {}),
      ...(access === 'ticket' ? { security: [{ apiKey: [] }, { ticket: [] }] } : {}),
    };
  }

  #parameters(schema: Json | undefined, where: 'path' | 'query'): Json[] {
    if (!schema) return [];
    const required = (schema.required as string[] | undefined) ?? [];
    const own = Object.entries((schema.properties ?? {}) as Record<string, Json>).map(([name, property]) => {
      const { description, ...rest } = this.#hoist(property) as Json;
      return {
        name,
        in: where,
        required: where === 'path' || required.includes(name),
        ...(description ? { description } : {}),
        schema: rest,
      };
    });
    const patterns = Object.entries((schema.patternProperties ?? {}) as Record<string, Json>).map(
      ([, property]) => {
        const { description, title, ...rest } = property;
        return {
          name: title,
          in: where,
          required: false,
          description,
          style: 'form',
          schema: rest,
        };
      },
    );
    return [...own, ...patterns];
  }

  #requestBody({ body, consumes, optionalBody = false }: RouteSchema): Json {
    const bodies = Object.entries(consumes ?? { 'application/json': body });
    return {
      required: !optionalBody,
      content: Object.fromEntries(bodies.map(([type, schema]) => [type, { schema: this.#hoist(schema) }])),
    };
  }

  #responses(response: Record<string, Json | string>, access: 'none' | 'ticket' | undefined): Json {
    const responses: Json = {};
    const error = { $ref: '#/components/schemas/Error' };
    for (const [status, answer] of Object.entries(response)) {
      if (typeof answer === 'string') {
        responses[status] =
          Number(status) < 400
            ? { description: answer }
            : { description: answer, content: { 'application/json': { schema: error } } };
        continue;
      }
      const { description, contentType, ...body } = answer;
      responses[status] = {
        description: description ?? 'Done.',
        content: { [(contentType as string) ?? 'application/json']: { schema: this.#hoist(body) } },
      };
    }
    const always = access === 'none' ? {} : { 401: 'No valid key.', 429: 'Too many requests.' };
    for (const [status, description] of Object.entries(always)) {
      responses[status] ??= { description, content: { 'application/json': { schema: error } } };
    }
    return responses;
  }

  /** A copy in which every schema with a name is a reference to a component. */
  #hoist(schema: unknown): unknown {
    if (Array.isArray(schema)) return schema.map((inner) => this.#hoist(inner));
    if (schema === null || typeof schema !== 'object') return schema;
    const { $id, ...rest } = schema as Json;
    const copy = Object.fromEntries(Object.entries(rest).map(([key, inner]) => [key, this.#hoist(inner)]));
    if (typeof $id !== 'string') return copy;
    this.#components[$id] ??= copy;
    return { $ref: `#/components/schemas/${$id}` };
  }

  /** Makes a schema known that only errors refer to. */
  component(schema: object): void {
    this.#hoist(schema);
  }
}
