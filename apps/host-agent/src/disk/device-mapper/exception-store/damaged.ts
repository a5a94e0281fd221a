/** The file is no exception store, or not a whole one, or not one of that disk. No part of it may be used. */
export class StoreDamaged extends Error {
  override readonly name = 'StoreDamaged';

  /** @param reason the fault, as the rest of a sentence */
  constructor(reason: string) {
    super(`The exception store ${reason}`);
  }
}
