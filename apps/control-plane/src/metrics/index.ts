/** The figures of `/metrics`, in Prometheus' text form. */
import { eventLoopEveryMs } from '@perch/node-kit';
import { sandboxStatuses } from '@perch/protocol';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** The figures that are asked for when somebody looks. */
export interface Sources {
  sandboxes(): Map<string, number>;
  /** 1 while the host agent answers. */
  hostUp(): Promise<number>;
  databaseUp(): Promise<number>;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #requests: Histogram<'method' | 'route' | 'status'>;
  readonly #execs: Counter<'kind' | 'outcome'>;
  readonly #transferred: Counter<'direction'>;
  readonly #transitions: Histogram<'transition' | 'stage'>;

  constructor() {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: eventLoopEveryMs });
    this.#requests = new Histogram({
      name: 'perch_http_request_duration_seconds',
      help: 'Duration of requests, to the last byte of the answer',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    });
    this.#execs = new Counter({
      name: 'perch_execs_total',
      help: 'Commands run, by way and outcome',
      labelNames: ['kind', 'outcome'],
      registers,
    });
    this.#transferred = new Counter({
      name: 'perch_file_bytes_total',
      help: 'Bytes of files moved to and from sandboxes',
      labelNames: ['direction'],
      registers,
    });
    this.#transitions = new Histogram({
      name: 'perch_transition_seconds',
      help: 'Duration of the stages of pauses, resumes, snapshots and forks, and of the whole',
      labelNames: ['transition', 'stage'],
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
      registers,
    });
  }

  /** @param timings milliseconds by stage, and `total` */
  transition(transition: 'pause' | 'resume' | 'snapshot' | 'fork', timings: Record<string, number>): void {
    for (const [stage, ms] of Object.entries(timings)) {
      this.#transitions.observe({ transition, stage }, ms / 1000);
    }
  }

  request(method: string, route: string, status: number, seconds: number): void {
    this.#requests.observe({ method, route, status: String(status) }, seconds);
  }

  exec(kind: 'whole' | 'stream', outcome: 'exit' | 'error'): void {
    this.#execs.inc({ kind, outcome });
  }

  transferred(direction: 'in' | 'out', bytes: number): void {
    this.#transferred.inc({ direction }, bytes);
  }

  watch(sources: Sources): void {
    const registers = [this.#registry];
    new Gauge({
      name: 'perch_sandboxes',
      help: 'Sandboxes by status',
      labelNames: ['status'],
      registers,
      collect() {
        const counts = sources.sandboxes();
        for (const status of sandboxStatuses) {
          if (status !== 'destroyed') this.set({ status }, counts.get(status) ?? 0);
        }
      },
    });
    new Gauge({
      name: 'perch_host_up',
      help: 'Whether the host agent answers',
      registers,
      async collect() {
        this.set(await sources.hostUp());
      },
    });
    new Gauge({
      name: 'perch_database_up',
      help: 'Whether the database answers',
      registers,
      async collect() {
        this.set(await sources.databaseUp());
      },
    });
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }
}
