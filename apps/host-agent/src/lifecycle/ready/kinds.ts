/** The kinds of guests that creates ask for, and what is known of each: what was asked for lately, hits and misses. */
import { asked, type Demand, noDemand, wanted } from './demand.ts';

/** The fields of a create that say which guest can be its sandbox. */
export interface GuestRequest {
  template: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
}

export interface Kind {
  readonly request: GuestRequest;
  demand: Demand;
  /** Creates that found one, and that found none. */
  hits: number;
  misses: number;
}

/** Kinds that are remembered; the one that was not asked for longest goes. */
const most = 64;

export class Kinds {
  readonly #all = new Map<string, Kind>();

  /** A create has come. */
  asked(request: GuestRequest, now: number): void {
    const kind = this.of(request);
    kind.demand = asked(kind.demand, now);
    if (this.#all.size <= most) return;
    const others = [...this.#all].filter(([, { demand }]) => demand !== noDemand);
    const [oldest] = others.sort(([, a], [, b]) => a.demand.at - b.demand.at);
    if (oldest) this.#all.delete(oldest[0]);
  }

  /** Undefined when it is not remembered. */
  find(request: GuestRequest): Kind | undefined {
    return this.#all.get(nameOf(request));
  }

  of(request: GuestRequest): Kind {
    const known = this.find(request);
    if (known) return known;
    const { template, vcpus, memory_mb, disk_mb } = request;
    const kind = {
      ...{ request: { template, vcpus, memory_mb, disk_mb }, demand: noDemand },
      ...{ hits: 0, misses: 0 },
    };
    this.#all.set(nameOf(request), kind);
    return kind;
  }

  /** Nothing more is wanted of it until it is asked for again. */
  forget(request: GuestRequest): void {
    this.#all.delete(nameOf(request));
  }

  /** In an order that no create changes: guests that stand ready for one kind do not go for another, and back again. */
  all(): Kind[] {
    return [...this.#all.values()];
  }
}

export function wantedOf({ demand }: Kind, now: number): number {
  return wanted(demand, now);
}

/** The name of a kind, which tells it from all others. */
export function nameOf({ template, vcpus, memory_mb, disk_mb }: GuestRequest): string {
  return `${template} ${vcpus} ${memory_mb} ${disk_mb}`;
}
