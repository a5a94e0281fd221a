/** The numbers of ready guests that somebody has set, by template and shape. The journal keeps them. */
import { failpoint } from '../../failpoints/index.ts';
import type { Journal } from '../journal/index.ts';
import { type GuestRequest, nameOf } from './kinds.ts';

export interface Pin {
  request: GuestRequest;
  count: number;
}

const setting = 'ready_pins';

export class Pins {
  readonly #journal: Pick<Journal, 'setting' | 'setSetting'>;
  #all: readonly Pin[];

  constructor(journal: Pick<Journal, 'setting' | 'setSetting'>) {
    this.#journal = journal;
    this.#all = JSON.parse(journal.setting(setting) ?? '[]') as Pin[];
  }

  all(): readonly Pin[] {
    return this.#all;
  }

  /** Undefined when none was set. */
  countOf(request: GuestRequest): number | undefined {
    return this.#of(request)?.count;
  }

  /** All pins if this one was set, without setting it. @param count null: none is set for it */
  with({ template, vcpus, memory_mb, disk_mb }: GuestRequest, count: number | null): readonly Pin[] {
    const request = { template, vcpus, memory_mb, disk_mb };
    const others = this.#all.filter((pin) => pin !== this.#of(request));
    return count === null ? others : [...others, { request, count }];
  }

  /** Keeps these and no others. Resolves to the same after any crash: the journal has all of them or those of before. */
  keep(pins: readonly Pin[]): void {
    this.#journal.setSetting(setting, JSON.stringify(pins));
    failpoint('pin.journaled');
    this.#all = pins;
  }

  #of(request: GuestRequest): Pin | undefined {
    return this.#all.find((pin) => nameOf(pin.request) === nameOf(request));
  }
}
