/**
 * The host API without VMs, on a real unix socket: for tests of perchd alone. Real hosts and VMs are covered
 * by the end-to-end suites.
 */
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import {
  type ConvertSnapshot,
  HostCreate,
  HostFork,
  type HostInfo,
  HostPause,
  HostPinReady,
  HostResume,
  type HostSandbox,
  HostSnapshotCreate,
  PerchError,
  type ReadyGuests,
  type Snapshot,
  version,
} from '@perch/protocol';
import Fastify from 'fastify';

export class FakeHost implements AsyncDisposable {
  readonly sandboxes = new Map<string, HostSandbox>();
  readonly created: { id: string; body: HostCreate; requestId: unknown }[] = [];
  readonly deleted: string[] = [];
  ready = true;
  problems: string[] = [];
  lacks: HostInfo['lacks'] = [];
  /** Runs before a create is answered; may throw. */
  onCreate: (id: string, body: HostCreate) => Promise<void> | void = () => {};
  readonly paused: { id: string; body: HostPause; requestId: unknown }[] = [];
  readonly resumed: { id: string; body: HostResume; requestId: unknown }[] = [];
  /** Runs in the middle of a pause or a resume, after its beginning was told; may throw. */
  onPause: (id: string, body: HostPause) => Promise<void> | void = () => {};
  onResume: (id: string, body: HostResume) => Promise<void> | void = () => {};
  readonly forked: { id: string; body: HostFork }[] = [];
  readonly snapshots = new Map<string, Snapshot>();
  readonly pinned: HostPinReady[] = [];
  /** Runs in the middle of a fork or a snapshot, after its beginning was told; may throw. */
  onCopy: (id: string) => Promise<void> | void = () => {};
  /** Why a child of a fork does not start. */
  failsChild: (id: string) => PerchError | undefined = () => undefined;
  /** Pauses and resumes are done, and their connection ends without an answer. */
  losesAnswers = false;
  console = 'booted\n';
  readonly #id: string;
  readonly #socketPath: string;
  #app = this.#make();
  #streams = new Set<(line: string) => void>();

  constructor(socketPath: string, id = 'local') {
    this.#id = id;
    this.#socketPath = socketPath;
  }

  async start(): Promise<this> {
    await this.#app.listen({ path: this.#socketPath });
    return this;
  }

  /** As when perch-host dies; its sandboxes live on. */
  async stop(): Promise<void> {
    this.#streams.clear();
    await this.#app.close();
    this.#app = this.#make();
  }

  /** The host tells of a change that nobody asked for. */
  change(id: string, changes: Partial<HostSandbox>): void {
    const known = this.sandboxes.get(id) ?? this.add(id);
    const sandbox = { ...known, ...changes };
    this.sandboxes.set(id, sandbox);
    if (sandbox.status === 'destroyed') this.sandboxes.delete(id);
    this.#tell({ type: 'sandbox', sandbox });
  }

  add(id: string, changes: Partial<HostSandbox> = {}): HostSandbox {
    const sandbox: HostSandbox = {
      id,
      generation: 1,
      status: 'running',
      template: 'base',
      vcpus: 1,
      memory_mb: 512,
      disk_mb: 5120,
      address: '127.0.0.1',
      changed_at: new Date().toISOString(),
      timings_ms: {},
      ...changes,
    };
    this.sandboxes.set(id, sandbox);
    return sandbox;
  }

  info(): HostInfo {
    return {
      host_id: this.#id,
      instance: 'test',
      version,
      ready: this.ready,
      problems: this.problems,
      machine: {
        monitor: { kind: 'qemu', version: '10.0', accelerator: 'tcg' },
        ...{ cpu: 'max', disk: { format: 'qcow2' } },
      },
      why: 'a test',
      memory_mb: { total: 8192, free: 4096 },
      disk_mb: { total: 100_000, free: 50_000 },
      lacks: this.lacks,
      slots: { total: 100, used: this.sandboxes.size, ready: 4 },
      templates: [{ name: 'base', content_id: 'a'.repeat(64), size_bytes: 1_000_000, disk_mb: 1024 }],
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#app.close();
  }

  /** Of the life that is asked for. */
  #copyable(id: string, generation: number): HostSandbox {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) throw new PerchError('sandbox_not_found', `No sandbox ${id}.`, { id });
    const { status } = sandbox;
    if (sandbox.generation === generation && (status === 'running' || status === 'paused')) return sandbox;
    throw new PerchError('sandbox_not_running', `${id} is ${status}.`, { id, status });
  }

  async #copy(id: string, generation: number, status: 'snapshotting' | 'forking'): Promise<HostSandbox> {
    const before = this.#copyable(id, generation);
    if (before.status === 'running') this.change(id, { status });
    await this.#orBack(id, before, () => this.onCopy(id));
    if (this.sandboxes.get(id)?.status === status) this.change(id, { status: 'running' });
    return before;
  }

  /** An operation that fails in the middle is taken back, unless the sandbox has changed otherwise. */
  async #orBack(id: string, before: HostSandbox, work: () => Promise<void> | void): Promise<void> {
    const begun = this.sandboxes.get(id);
    try {
      await work();
    } catch (error) {
      if (this.sandboxes.get(id) === begun) this.change(id, before);
      throw error;
    }
  }

  #tell(event: object): void {
    for (const write of this.#streams) write(`${JSON.stringify(event)}\n`);
  }

  #make() {
    const app = Fastify({ forceCloseConnections: true }).withTypeProvider<TypeBoxTypeProvider>();
    app.setValidatorCompiler(TypeBoxValidatorCompiler);
    app.setErrorHandler((error, request, reply) => {
      const perch =
        error instanceof PerchError
          ? error
          : new PerchError('internal', String(error), { request_id: request.id });
      return reply.code(perch.status).send(perch.toBody());
    });
    const find = (id: string): HostSandbox => {
      const sandbox = this.sandboxes.get(id);
      if (!sandbox) throw new PerchError('sandbox_not_found', `No sandbox ${id}.`, { id });
      return sandbox;
    };
    app.get('/v1/host', async () => this.info());
    app.get('/v1/sandboxes', async () => ({ items: [...this.sandboxes.values()] }));
    app.put<{ Params: { id: string }; Body: HostCreate }>(
      '/v1/sandboxes/:id',
      { schema: { body: HostCreate } },
      async (request, reply) => {
        const { id } = request.params;
        this.created.push({ id, body: request.body, requestId: request.headers['x-request-id'] });
        await this.onCreate(id, request.body);
        const { generation, template, vcpus, memory_mb, disk_mb } = request.body;
        const sandbox = this.add(id, { generation, template, vcpus, memory_mb, disk_mb });
        this.#tell({ type: 'sandbox', sandbox });
        return reply.code(201).send(sandbox);
      },
    );
    app.delete<{ Params: { id: string } }>('/v1/sandboxes/:id', async (request, reply) => {
      const { id } = request.params;
      this.deleted.push(id);
      find(id);
      this.change(id, { status: 'destroyed', address: null });
      return reply.code(204).send();
    });
    app.post<{ Params: { id: string }; Body: HostPause }>(
      '/v1/sandboxes/:id/pause',
      { schema: { body: HostPause } },
      async (request, reply) => {
        const { id } = request.params;
        const { generation } = request.body;
        this.paused.push({ id, body: request.body, requestId: request.headers['x-request-id'] });
        const before = find(id);
        if (before.status === 'paused' && before.generation === generation) return before;
        if (before.status !== 'running' || before.generation !== generation) {
          throw new PerchError('sandbox_not_running', `${id} is ${before.status}.`, {
            id,
            status: before.status,
          });
        }
        this.change(id, { status: 'pausing' });
        await this.#orBack(id, before, () => this.onPause(id, request.body));
        find(id);
        const timings_ms = {
          freeze: 1,
          device_state: 2,
          memory: 30,
          disk: 4,
          commit: 5,
          teardown: 6,
          total: 48,
        };
        this.change(id, { status: 'paused', address: null, timings_ms });
        if (this.losesAnswers) reply.raw.destroy();
        return find(id);
      },
    );
    app.post<{ Params: { id: string }; Body: HostResume }>(
      '/v1/sandboxes/:id/resume',
      { schema: { body: HostResume } },
      async (request, reply) => {
        const { id } = request.params;
        const { generation } = request.body;
        this.resumed.push({ id, body: request.body, requestId: request.headers['x-request-id'] });
        const before = find(id);
        if (before.status === 'running' && before.generation === generation) return before;
        if (before.status !== 'paused' || before.generation + 1 !== generation) {
          throw new PerchError('sandbox_not_paused', `${id} is ${before.status}.`, {
            id,
            status: before.status,
          });
        }
        this.change(id, { status: 'resuming', generation });
        await this.#orBack(id, before, () => this.onResume(id, request.body));
        find(id);
        const timings_ms = { network: 1, restore: 20, guest: 9, total: 30 };
        this.change(id, { status: 'running', address: '127.0.0.2', timings_ms });
        if (this.losesAnswers) reply.raw.destroy();
        return find(id);
      },
    );
    app.post<{ Params: { id: string }; Body: HostFork }>(
      '/v1/sandboxes/:id/fork',
      { schema: { body: HostFork } },
      async (request) => {
        const { id } = request.params;
        this.forked.push({ id, body: request.body });
        const source = await this.#copy(id, request.body.generation, 'forking');
        const { template, vcpus, memory_mb, disk_mb } = source;
        const results = request.body.children.map((child) => {
          const failure = this.failsChild(child.id);
          if (failure) return { id: child.id, ...failure.toBody() };
          const sandbox = this.add(child.id, { template, vcpus, memory_mb, disk_mb });
          this.#tell({ type: 'sandbox', sandbox });
          return { sandbox };
        });
        return { results, timings_ms: { freeze: 1, frozen: 20, copied: 200, total: 900 } };
      },
    );
    app.get<{ Params: { id: string } }>('/v1/sandboxes/:id/history', async (request) => {
      find(request.params.id);
      const sizes = { size_bytes: 10, own_bytes: 4, shared_bytes: 6 };
      const created_at = new Date().toISOString();
      return {
        items: [
          { checkpoint: 0, parent: null, kind: 'start', memory: true, created_at, ...sizes },
          { checkpoint: 1, parent: 0, kind: 'pause', memory: true, created_at, ...sizes },
        ],
        own_bytes: 8,
        shared_bytes: 12,
      };
    });
    app.post<{ Body: HostSnapshotCreate }>(
      '/v1/snapshots',
      { schema: { body: HostSnapshotCreate } },
      async (request, reply) => {
        const { name, sandbox_id, generation, overwrite, memory = true } = request.body;
        if (this.snapshots.has(name) && !overwrite) {
          throw new PerchError('snapshot_exists', `There is ${name}.`, { name });
        }
        const { template, vcpus, memory_mb, disk_mb } = await this.#copy(
          sandbox_id,
          generation,
          'snapshotting',
        );
        const snapshot: Snapshot = {
          ...{ name, type: 'snapshot', template, vcpus, memory_mb, disk_mb, sandbox_id },
          ...{ size_bytes: 10, own_bytes: 4, shared_bytes: 6, standalone: false, disk_format: 'qcow2' },
          memory,
          created_at: new Date().toISOString(),
        };
        this.snapshots.set(name, snapshot);
        return reply.code(201).send({ ...snapshot, timings_ms: { freeze: 1, frozen: 20, total: 300 } });
      },
    );
    app.get('/v1/ready', async () => ({ items: this.pinned.map(readyGuests) }));
    app.put<{ Body: HostPinReady }>('/v1/ready', { schema: { body: HostPinReady } }, async ({ body }) => {
      const { count } = body;
      if (count !== null && count > 8) {
        throw new PerchError('too_many_ready', 'Too many.', { requested: count, limit: 8 });
      }
      this.pinned.push(body);
      return readyGuests(body);
    });
    const named = (name: string): Snapshot => {
      const snapshot = this.snapshots.get(name);
      if (!snapshot) throw new PerchError('snapshot_not_found', `No snapshot ${name}.`, { name });
      return snapshot;
    };
    app.get('/v1/snapshots', async () => ({
      items: [
        {
          ...{ name: 'base', type: 'base', template: 'base', vcpus: null, memory_mb: null, disk_mb: 1024 },
          ...{ size_bytes: 10, own_bytes: 10, shared_bytes: 0, standalone: true, disk_format: 'image' },
          memory: false,
          sandbox_id: null,
          created_at: new Date(0).toISOString(),
        },
        ...this.snapshots.values(),
      ].sort((a, b) => (a.name < b.name ? -1 : 1)),
    }));
    app.get<{ Params: { name: string } }>('/v1/snapshots/:name', async (request) =>
      named(request.params.name),
    );
    app.post<{ Params: { name: string } }>('/v1/snapshots/:name/flatten', async (request) => {
      const flat = { ...named(request.params.name), standalone: true, disk_format: 'image' } as const;
      this.snapshots.set(flat.name, flat);
      return flat;
    });
    app.post<{ Params: { name: string }; Body: ConvertSnapshot }>(
      '/v1/snapshots/:name/convert',
      async (request) => {
        const converted = { ...named(request.params.name), disk_format: request.body.to };
        this.snapshots.set(converted.name, converted);
        return converted;
      },
    );
    app.delete<{ Params: { name: string } }>('/v1/snapshots/:name', async (request, reply) => {
      this.snapshots.delete(named(request.params.name).name);
      return reply.code(204).send();
    });
    app.get<{ Params: { id: string } }>('/v1/sandboxes/:id/console', async (request, reply) => {
      find(request.params.id);
      return reply.type('application/octet-stream').send(Buffer.from(this.console));
    });
    app.get('/v1/events', (_request, reply) => {
      reply.hijack();
      reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
      for (const sandbox of this.sandboxes.values()) {
        reply.raw.write(`${JSON.stringify({ type: 'sandbox', sandbox })}\n`);
      }
      reply.raw.write(`${JSON.stringify({ type: 'synced' })}\n`);
      const write = (line: string) => void reply.raw.write(line);
      this.#streams.add(write);
      const beat = setInterval(() => write('{"type":"heartbeat"}\n'), 5_000);
      reply.raw.on('close', () => {
        clearInterval(beat);
        this.#streams.delete(write);
      });
    });
    return app;
  }
}

function readyGuests({ count, ...request }: HostPinReady): ReadyGuests {
  return { ...request, ready: 0, wanted: count ?? 0, pinned: count, hits: 0, misses: 0 };
}
